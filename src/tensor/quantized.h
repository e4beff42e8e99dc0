// The arithmetic of quantization, one definition for the reference and every kernel. All of it is
// done in float, each operation rounded on its own (no fused multiply-add).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "base/scalar_types.h"
#include "tensor/dtype.h"

namespace halftone {

// No scale is smaller: a row of zeros quantizes to zeros.
inline constexpr float kMinScale = 1e-12F;

// Range of `bits`-bit signed integers (2, 4 or 8); narrow leaves out the lowest: [-127, 127].
[[nodiscard]] constexpr int32_t quantized_high(int64_t bits) { return (1 << (bits - 1)) - 1; }
[[nodiscard]] constexpr int32_t quantized_low(int64_t bits, bool narrow) {
  return -quantized_high(bits) - (narrow ? 0 : 1);
}
// The value that the largest magnitude maps to: 448 for f8e4m3, 127, 7 or 1 for integers.
[[nodiscard]] constexpr float quantized_largest(DType dtype, int64_t bits) {
  return dtype == DType::kF8E4M3 ? 448.0F : static_cast<float>(quantized_high(bits));
}

// The scale of a dynamic quantization.
[[nodiscard]] inline float scale_for(float amax, float largest) {
  return std::max(amax / largest, kMinScale);
}
// Quantizing multiplies by the rounded reciprocal; computed once a scale.
[[nodiscard]] inline float inverse_scale(float scale) { return 1.0F / scale; }

// clamp(rne(x * inverse) + zero, low, high); a NaN gives some value of the range.
[[nodiscard]] inline int32_t quantize_integer(float x, float inverse, int32_t zero, int32_t low,
                                              int32_t high) {
  const float q = std::nearbyint(x * inverse) + static_cast<float>(zero);
  return static_cast<int32_t>(
      std::fmax(std::fmin(q, static_cast<float>(high)), static_cast<float>(low)));
}
// Saturating; a NaN stays one.
[[nodiscard]] inline uint8_t quantize_f8e4m3(float x, float inverse) {
  return float_to_f8e4m3(x * inverse);
}

// Integers of 2 or 4 bits lie in u8 rows, two's complement, element i of the row at bit
// (i * bits) % 8 of byte i * bits / 8.
[[nodiscard]] inline int32_t packed_at(const uint8_t* row, int64_t i, int64_t bits) {
  const int64_t at = i * bits;
  const uint32_t field = (static_cast<uint32_t>(row[at / 8]) >> (at % 8)) & ((1U << bits) - 1U);
  const auto value = static_cast<int32_t>(field);
  return value > quantized_high(bits) ? value - (1 << bits) : value;
}
// The byte must be zero at the element's bits.
inline void put_packed(uint8_t* row, int64_t i, int64_t bits, int32_t value) {
  const int64_t at = i * bits;
  const uint32_t field = (static_cast<uint32_t>(value) & ((1U << bits) - 1U)) << (at % 8);
  row[at / 8] = static_cast<uint8_t>(row[at / 8] | field);
}

}  // namespace halftone
