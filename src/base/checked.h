// Arithmetic on sizes that come from files: overflow is an answer, never wrapped.
#pragma once

#include <cstdint>
#include <optional>

namespace halftone {

[[nodiscard]] constexpr std::optional<uint64_t> checked_add(uint64_t a, uint64_t b) {
  uint64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

[[nodiscard]] constexpr std::optional<uint64_t> checked_mul(uint64_t a, uint64_t b) {
  uint64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

// Rounds up to a multiple of `alignment`, a power of two of at most 2^32; nullopt otherwise.
[[nodiscard]] constexpr std::optional<uint64_t> checked_round_up(uint64_t n, uint64_t alignment) {
  constexpr uint64_t kLargest = uint64_t{1} << 32;
  if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > kLargest) {
    return std::nullopt;
  }
  const auto sum = checked_add(n, alignment - 1);
  if (!sum) return std::nullopt;
  return *sum & ~(alignment - 1);
}

}  // namespace halftone
