#include "base/checked.h"

#include <limits>

#include <gtest/gtest.h>

#include "halftone/utf8.h"

#include "base/text.h"

namespace halftone {
namespace {

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

TEST(CheckedTest, OverflowIsAnAnswer) {
  EXPECT_EQ(checked_add(1, 2), 3U);
  EXPECT_EQ(checked_add(kMax, 1), std::nullopt);
  EXPECT_EQ(checked_mul(uint64_t{1} << 32, uint64_t{1} << 31), uint64_t{1} << 63);
  EXPECT_EQ(checked_mul(uint64_t{1} << 32, uint64_t{1} << 32), std::nullopt);
}

TEST(CheckedTest, RoundUpNeedsAPowerOfTwo) {
  EXPECT_EQ(checked_round_up(65, 64), 128U);
  EXPECT_EQ(checked_round_up(64, 64), 64U);
  EXPECT_EQ(checked_round_up(0, 64), 0U);
  EXPECT_EQ(checked_round_up(1, 48), std::nullopt);
  EXPECT_EQ(checked_round_up(1, 0), std::nullopt);
  EXPECT_EQ(checked_round_up(kMax, 64), std::nullopt);
}

TEST(TextTest, Utf8) {
  EXPECT_TRUE(is_utf8("caf\xc3\xa9 \xf0\x9f\x98\x80"));
  EXPECT_FALSE(is_utf8("\xc0\x80"));          // overlong
  EXPECT_FALSE(is_utf8("\xed\xa0\x80"));      // surrogate
  EXPECT_FALSE(is_utf8("\xf4\x90\x80\x80"));  // above U+10FFFF
  EXPECT_FALSE(is_utf8("\xe2\x82"));          // truncated
  EXPECT_EQ(malformed_utf8("caf\xc3\xa9 \xe2\x82"), 6U);
  EXPECT_EQ(malformed_utf8("caf\xc3\xa9"), std::nullopt);
}

TEST(TextTest, PrintableEscapesAndCuts) {
  EXPECT_EQ(printable("a\nb\x1b[0m\xff"), "a\\x0ab\\x1b[0m\\xff");
  EXPECT_EQ(printable(std::string(50, 'x'), 10), "xxxxxxxxxx...");
}

}  // namespace
}  // namespace halftone
