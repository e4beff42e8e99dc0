#include "tensor/tensor.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "halftone/error.h"

#include "base/scalar_types.h"

namespace halftone {
namespace {

constexpr std::array<std::pair<DType, std::string_view>, 9> kNames{{{DType::kF32, "f32"},
                                                                    {DType::kF16, "f16"},
                                                                    {DType::kBF16, "bf16"},
                                                                    {DType::kF8E4M3, "f8e4m3"},
                                                                    {DType::kF8E5M2, "f8e5m2"},
                                                                    {DType::kI8, "i8"},
                                                                    {DType::kU8, "u8"},
                                                                    {DType::kI32, "i32"},
                                                                    {DType::kI64, "i64"}}};

constexpr size_t kAlignment = 64;

float load(const void* src, DType type, size_t i) {
  switch (type) {
    case DType::kF32:
      return static_cast<const float*>(src)[i];
    case DType::kF16:
      return f16_to_float(static_cast<const uint16_t*>(src)[i]);
    case DType::kBF16:
      return bf16_to_float(static_cast<const uint16_t*>(src)[i]);
    case DType::kF8E4M3:
      return f8e4m3_to_float(static_cast<const uint8_t*>(src)[i]);
    case DType::kF8E5M2:
      return f8e5m2_to_float(static_cast<const uint8_t*>(src)[i]);
    default:
      throw Error(Errc::kInternal, "convert: integer types convert only to themselves");
  }
}

void store(float value, void* dst, DType type, size_t i) {
  switch (type) {
    case DType::kF32:
      static_cast<float*>(dst)[i] = value;
      return;
    case DType::kF16:
      static_cast<uint16_t*>(dst)[i] = float_to_f16(value);
      return;
    case DType::kBF16:
      static_cast<uint16_t*>(dst)[i] = float_to_bf16(value);
      return;
    case DType::kF8E4M3:
      static_cast<uint8_t*>(dst)[i] = float_to_f8e4m3(value);
      return;
    case DType::kF8E5M2:
      static_cast<uint8_t*>(dst)[i] = float_to_f8e5m2(value);
      return;
    default:
      throw Error(Errc::kInternal, "convert: integer types convert only to themselves");
  }
}

}  // namespace

std::string_view to_string(DType dtype) {
  for (const auto& [type, name] : kNames) {
    if (type == dtype) return name;
  }
  return "?";
}

DType parse_dtype(std::string_view name) {
  for (const auto& [type, text] : kNames) {
    if (text == name) return type;
  }
  throw Error(Errc::kInvalidArgument, fmt::format("unknown element type '{}'", name));
}

std::string to_string(const Shape& shape) {
  return fmt::format("[{}]", fmt::join(shape.dims(), ","));
}

std::string to_string(const TensorType& type) {
  return fmt::format("{}{}", to_string(type.dtype), to_string(type.shape));
}

void Tensor::Free::operator()(std::byte* p) const {
  ::operator delete (p, std::align_val_t{kAlignment});
}

Tensor::Tensor(TensorType type) : type_(std::move(type)) {
  const size_t bytes = std::max<size_t>(type_.num_bytes(), 1);
  data_.reset(
      static_cast<std::byte*>(::operator new (bytes, std::align_val_t{kAlignment}, std::nothrow)));
  if (data_ == nullptr) {
    throw Error(Errc::kOutOfMemory,
                fmt::format("cannot allocate {} bytes for a {} tensor", bytes, to_string(type_)));
  }
}

Tensor Tensor::zeros(TensorType type) {
  Tensor t(std::move(type));
  std::memset(t.data(), 0, t.type().num_bytes());
  return t;
}

Tensor Tensor::from(Shape shape, std::span<const float> values) {
  Tensor t({DType::kF32, std::move(shape)});
  check_internal(values.size() == t.values<float>().size(), "Tensor::from: value count");
  std::ranges::copy(values, t.values<float>().begin());
  return t;
}

Tensor Tensor::clone() const {
  Tensor t(type_);
  std::memcpy(t.data(), data(), type_.num_bytes());
  return t;
}

Tensor Tensor::to(DType dtype) const {
  Tensor t({dtype, type_.shape});
  convert(data(), type_.dtype, t.data(), dtype, static_cast<size_t>(type_.shape.num_elements()));
  return t;
}

void convert(const void* src, DType src_type, void* dst, DType dst_type, size_t n) {
  if (n == 0) return;  // memcpy refuses the null of an empty tensor
  if (src_type == dst_type) {
    std::memcpy(dst, src, n * size_of(src_type));
    return;
  }
  for (size_t i = 0; i < n; ++i) store(load(src, src_type, i), dst, dst_type, i);
}

}  // namespace halftone
