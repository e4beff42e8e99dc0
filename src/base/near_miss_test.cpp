#include "halftone/near_miss.h"

#include <array>

#include <gtest/gtest.h>

namespace halftone {
namespace {

constexpr std::array<std::string_view, 4> kWords{"pattern", "weight", "activation", "kind"};

TEST(NearMiss, FindsTheNearestWord) {
  EXPECT_EQ(near_miss("patern", kWords), "pattern");
  EXPECT_EQ(near_miss("weigth", kWords), "weight");
  EXPECT_EQ(near_miss("activations", kWords), "activation");
  EXPECT_EQ(near_miss("kidn", kWords), "kind");  // neighbours exchanged: one edit
  EXPECT_EQ(near_miss("kond", kWords), "kind");
  EXPECT_EQ(near_miss("kong", kWords), "");  // two of four letters are too many
  EXPECT_EQ(near_miss("colour", kWords), "");
  EXPECT_EQ(near_miss("", kWords), "");
  EXPECT_EQ(near_miss(std::string(100'000, 'x'), kWords), "");
}

TEST(NearMiss, AsPartOfAMessage) {
  EXPECT_EQ(did_you_mean("kint", kWords), "; did you mean 'kind'?");
  EXPECT_EQ(did_you_mean("colour", kWords), "");
}

}  // namespace
}  // namespace halftone
