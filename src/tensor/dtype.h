// Element types and their sizes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace halftone {

enum class DType : uint8_t { kF32, kF16, kBF16, kF8E4M3, kF8E5M2, kI8, kU8, kI32, kI64 };

[[nodiscard]] constexpr size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kI64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kF16:
    case DType::kBF16:
      return 2;
    case DType::kF8E4M3:
    case DType::kF8E5M2:
    case DType::kI8:
    case DType::kU8:
      return 1;
  }
  return 0;
}

// "f32", "f16", "bf16", "f8e4m3", "f8e5m2", "i8", "u8", "i32", "i64".
[[nodiscard]] std::string_view to_string(DType dtype);
// Inverse of to_string; throws kInvalidArgument for an unknown name.
[[nodiscard]] DType parse_dtype(std::string_view name);
[[nodiscard]] constexpr bool is_floating(DType dtype) { return dtype <= DType::kF8E5M2; }

}  // namespace halftone
