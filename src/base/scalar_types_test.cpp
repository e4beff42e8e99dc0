#include "base/scalar_types.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace halftone {
namespace {

// Every pattern survives the way through float; NaN stays NaN.
template <class Bits, class Decode, class Encode>
void expect_round_trip(Decode decode, Encode encode) {
  for (uint32_t i = 0; i <= std::numeric_limits<Bits>::max(); ++i) {
    const auto bits = static_cast<Bits>(i);
    const float value = decode(bits);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(decode(encode(value)))) << i;
    } else if (!std::isinf(value) || sizeof(Bits) > 1) {  // fp8 saturates
      EXPECT_EQ(encode(value), bits) << i;
    }
  }
}

// Between every two neighbours a < b the midpoint goes to the even pattern, its neighbours in float
// to the nearer one.
template <class Bits, class Decode, class Encode>
void expect_nearest_even(Decode decode, Encode encode, uint32_t last) {
  for (uint32_t i = 0; i < last; ++i) {
    const auto low = static_cast<Bits>(i);
    const auto high = static_cast<Bits>(i + 1);
    const double exact = (static_cast<double>(decode(low)) + static_cast<double>(decode(high))) / 2;
    const auto middle = static_cast<float>(exact);
    if (static_cast<double>(middle) != exact) continue;  // below float's own spacing
    EXPECT_EQ(encode(middle), i % 2 == 0 ? low : high) << i;
    EXPECT_EQ(encode(std::nextafter(middle, 0.0F)), low) << i;
    EXPECT_EQ(encode(std::nextafter(middle, std::numeric_limits<float>::infinity())), high) << i;
    const auto sign = static_cast<Bits>(Bits{1} << (8 * sizeof(Bits) - 1));
    EXPECT_EQ(encode(-middle), static_cast<Bits>((i % 2 == 0 ? low : high) | sign)) << i;
  }
}

TEST(ScalarTypes, Bf16) {
  expect_round_trip<uint16_t>(bf16_to_float, float_to_bf16);
  expect_nearest_even<uint16_t>(bf16_to_float, float_to_bf16, 0x7f7f);
  EXPECT_EQ(float_to_bf16(std::numeric_limits<float>::max()), 0x7f80);  // rounds to infinity
}

TEST(ScalarTypes, F16) {
  expect_round_trip<uint16_t>(f16_to_float, float_to_f16);
  expect_nearest_even<uint16_t>(f16_to_float, float_to_f16, 0x7bff);
  EXPECT_EQ(float_to_f16(65504.0F), 0x7bff);
  EXPECT_EQ(float_to_f16(65519.0F), 0x7bff);
  EXPECT_EQ(float_to_f16(65520.0F), 0x7c00);
  EXPECT_EQ(float_to_f16(-1e30F), 0xfc00);
  EXPECT_EQ(float_to_f16(0x1p-26F), 0x0000);
}

TEST(ScalarTypes, F8E4M3) {
  expect_round_trip<uint8_t>(f8e4m3_to_float, float_to_f8e4m3);
  expect_nearest_even<uint8_t>(f8e4m3_to_float, float_to_f8e4m3, 0x7e);
  EXPECT_EQ(f8e4m3_to_float(0x7e), 448.0F);
  EXPECT_EQ(float_to_f8e4m3(1e9F), 0x7e);
  EXPECT_EQ(float_to_f8e4m3(-std::numeric_limits<float>::infinity()), 0xfe);
}

TEST(ScalarTypes, F8E5M2) {
  expect_round_trip<uint8_t>(f8e5m2_to_float, float_to_f8e5m2);
  expect_nearest_even<uint8_t>(f8e5m2_to_float, float_to_f8e5m2, 0x7b);
  EXPECT_EQ(f8e5m2_to_float(0x7b), 57344.0F);
  EXPECT_EQ(float_to_f8e5m2(1e9F), 0x7b);
}

}  // namespace
}  // namespace halftone
