// How attention to few keys is divided between blocks; needs no GPU.
#include "backend/cuda/hopper/attention.h"

#include <gtest/gtest.h>

namespace halftone::backend::cuda::hopper {
namespace {

// Of an H200, the best of those measured or as fast (bench/results/h200/batch16.txt, section 3).
TEST(FewKeysAttention, DividesAsMeasured) {
  const auto divided = [](int64_t tiles, int64_t heads) {
    return few_keys_tiles_of_block(tiles, heads, 132, 3);
  };
  EXPECT_EQ(divided(16, 16 * 20), 8);
  EXPECT_EQ(divided(64, 16 * 10), 16);
  EXPECT_EQ(divided(16, 8 * 20), 4);
  EXPECT_EQ(divided(64, 8 * 10), 8);
  EXPECT_EQ(divided(64, 4 * 10), 4);
  EXPECT_EQ(divided(16, 2 * 20), 2);
  EXPECT_EQ(divided(64, 2 * 10), 4);
}

TEST(FewKeysAttention, ABlockHasNoMoreThanAHead) {
  for (const int64_t tiles : {1, 2, 3, 7, 64}) {
    for (const int64_t heads : {1, 12, 5000}) {
      const int of_block = few_keys_tiles_of_block(tiles, heads, 132, 2);
      EXPECT_EQ(of_block % kFewKeysGroups, 0);
      EXPECT_GE(of_block, kFewKeysGroups);
      EXPECT_LE(of_block, tiles + tiles % kFewKeysGroups);
    }
  }
}

}  // namespace
}  // namespace halftone::backend::cuda::hopper
