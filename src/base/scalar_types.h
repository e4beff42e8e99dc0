// Conversions between float and the 16- and 8-bit floating formats, round to nearest even.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace halftone {

[[nodiscard]] inline float bf16_to_float(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

[[nodiscard]] inline uint16_t float_to_bf16(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<uint16_t>((bits >> 16) | 0x40U);
  bits += 0x7fffU + ((bits >> 16) & 1U);
  return static_cast<uint16_t>(bits >> 16);
}

[[nodiscard]] inline float f16_to_float(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000U) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1fU;
  const uint32_t mantissa = bits & 0x3ffU;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24 is exact in float
    const float magnitude = std::ldexp(static_cast<float>(mantissa), -24);
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
  }
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000U | (mantissa << 13));
  return std::bit_cast<float>(sign | ((exponent + 112U) << 23) | (mantissa << 13));
}

[[nodiscard]] inline uint16_t float_to_f16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000U);
  const uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return static_cast<uint16_t>(sign | 0x7e00U);   // NaN
  if (magnitude >= 0x477ff000U) return static_cast<uint16_t>(sign | 0x7c00U);  // rounds to inf
  if (magnitude < 0x38800000U) {                                               // subnormal result
    const float scaled = std::bit_cast<float>(magnitude) * 16777216.0F;        // * 2^24, exact
    return static_cast<uint16_t>(sign | static_cast<uint16_t>(std::nearbyint(scaled)));
  }
  const uint32_t rounded = magnitude + 0xfffU + ((magnitude >> 13) & 1U);
  return static_cast<uint16_t>(sign | static_cast<uint16_t>((rounded - 0x38000000U) >> 13));
}

// E4M3FN: 4 exponent bits (bias 7), 3 mantissa bits, no infinity, NaN = 0x7f, largest 448.
[[nodiscard]] inline float f8e4m3_to_float(uint8_t bits) {
  const uint32_t exponent = (bits >> 3) & 0xfU;
  const uint32_t mantissa = bits & 7U;
  float magnitude = 0.0F;
  if (exponent == 0xf && mantissa == 7) {
    magnitude = std::nanf("");
  } else if (exponent == 0) {
    magnitude = std::ldexp(static_cast<float>(mantissa), -9);
  } else {
    magnitude = std::ldexp(static_cast<float>(8U + mantissa), static_cast<int>(exponent) - 10);
  }
  return (bits & 0x80U) != 0 ? -magnitude : magnitude;
}

// Saturates to +-448; NaN stays NaN.
[[nodiscard]] inline uint8_t float_to_f8e4m3(float value) {
  const auto sign = static_cast<uint8_t>(std::signbit(value) ? 0x80U : 0U);
  if (std::isnan(value)) return static_cast<uint8_t>(sign | 0x7fU);
  const float magnitude = std::fmin(std::fabs(value), 448.0F);
  if (magnitude < 0.015625F) {  // below 2^-6: subnormals of 2^-9
    return static_cast<uint8_t>(sign | static_cast<uint8_t>(std::nearbyint(magnitude * 512.0F)));
  }
  const uint32_t bits = std::bit_cast<uint32_t>(magnitude);
  const uint32_t rounded = bits + 0x7ffffU + ((bits >> 20) & 1U);
  const uint32_t code = (rounded >> 20) - ((127U - 7U) << 3);
  return static_cast<uint8_t>(sign | static_cast<uint8_t>(code > 0x7eU ? 0x7eU : code));
}

// E5M2: the upper byte of an f16.
[[nodiscard]] inline float f8e5m2_to_float(uint8_t bits) {
  return f16_to_float(static_cast<uint16_t>(bits << 8));
}

// Saturates to +-57344; NaN stays NaN.
[[nodiscard]] inline uint8_t float_to_f8e5m2(float value) {
  const auto sign = static_cast<uint8_t>(std::signbit(value) ? 0x80U : 0U);
  if (std::isnan(value)) return static_cast<uint8_t>(sign | 0x7fU);
  const float magnitude = std::fmin(std::fabs(value), 57344.0F);
  if (magnitude < 6.103515625e-05F) {  // below 2^-14: subnormals of 2^-16
    return static_cast<uint8_t>(sign | static_cast<uint8_t>(std::nearbyint(magnitude * 65536.0F)));
  }
  const uint32_t bits = std::bit_cast<uint32_t>(magnitude);
  const uint32_t rounded = bits + 0xfffffU + ((bits >> 21) & 1U);
  const uint32_t code = (rounded >> 21) - ((127U - 15U) << 2);
  return static_cast<uint8_t>(sign | static_cast<uint8_t>(code > 0x7bU ? 0x7bU : code));
}

}  // namespace halftone
