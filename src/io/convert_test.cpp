#include "io/convert.h"

#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "tensor/tensor.h"

namespace halftone::io {
namespace {

// Every 16-bit pattern, and floats around every rounding boundary of the 16-bit formats.
std::vector<uint32_t> float_patterns() {
  std::vector<uint32_t> bits;
  std::mt19937 random(1);
  for (uint32_t high = 0; high < 0x10000; ++high) {
    for (const uint32_t low : {0U, 0x7fffU, 0x8000U, 0x8001U, 0x0fffU, 0x1000U, 0x1001U, 0x3000U}) {
      bits.push_back(high << 16 | low);
    }
    bits.push_back(static_cast<uint32_t>(random()));
  }
  return bits;
}

bool is_nan(uint32_t bits, DType dtype) {
  if (dtype == DType::kF32) return (bits & 0x7fffffffU) > 0x7f800000U;
  if (dtype == DType::kF16) return (bits & 0x7fffU) > 0x7c00U;
  return (bits & 0x7fffU) > 0x7f80U;
}

TEST(ConvertTest, EqualsTheScalarConversionOnEveryPattern) {
  std::vector<uint16_t> words(0x10000);
  for (uint32_t i = 0; i < 0x10000; ++i) words[i] = static_cast<uint16_t>(i);
  const std::vector<uint32_t> floats = float_patterns();
  const DType types[] = {DType::kF32, DType::kF16, DType::kBF16};
  for (const DType from : types) {
    const void* src = from == DType::kF32 ? static_cast<const void*>(floats.data()) : words.data();
    const size_t n = from == DType::kF32 ? floats.size() : words.size();
    for (const DType to : types) {
      std::vector<std::byte> wanted(n * size_of(to));
      std::vector<std::byte> got(n * size_of(to));
      convert(src, from, wanted.data(), to, n);
      convert_elements(src, from, got.data(), to, n);
      size_t wrong = 0;
      for (size_t i = 0; i < n; ++i) {
        uint32_t a = 0;
        uint32_t b = 0;
        std::memcpy(&a, wanted.data() + i * size_of(to), size_of(to));
        std::memcpy(&b, got.data() + i * size_of(to), size_of(to));
        // The payload of a NaN may differ.
        if (a != b && !(is_nan(a, to) && is_nan(b, to))) ++wrong;
      }
      EXPECT_EQ(wrong, 0U) << to_string(from) << " -> " << to_string(to);
    }
  }
}

TEST(ConvertTest, OddLengths) {
  const std::vector<float> src{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  for (size_t n = 0; n <= src.size(); ++n) {
    std::vector<uint16_t> out(12, 0xdead);
    convert_elements(src.data(), DType::kF32, out.data(), DType::kBF16, n);
    EXPECT_EQ(out[n], 0xdead);
    if (n > 0) {
      EXPECT_EQ(out[n - 1], static_cast<uint16_t>(std::bit_cast<uint32_t>(src[n - 1]) >> 16));
    }
  }
}

TEST(ConvertTest, CountsNonFinite) {
  std::vector<float> values(10000, 1.0F);
  values[3] = std::numeric_limits<float>::infinity();
  values[9999] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(count_non_finite(values.data(), DType::kF32, values.size()), 2U);
  const std::vector<uint16_t> halves{0x7c00, 0xfc01, 0x7bff, 0};
  EXPECT_EQ(count_non_finite(halves.data(), DType::kF16, 4), 2U);
  EXPECT_EQ(count_non_finite(halves.data(), DType::kI64, 1), 0U);
}

}  // namespace
}  // namespace halftone::io
