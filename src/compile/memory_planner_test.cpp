#include "compile/memory_planner.h"

#include <random>

#include <gtest/gtest.h>

namespace halftone::compile {
namespace {

TEST(MemoryPlanner, LiveTensorsNeverOverlap) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    std::vector<Lifetime> items(1 + random() % 40);
    for (Lifetime& item : items) {
      item.bytes = random() % 5000;
      item.first = random() % 30;
      item.last = item.first + random() % 10;
    }
    const uint64_t total = plan_offsets(items);
    for (size_t i = 0; i < items.size(); ++i) {
      EXPECT_EQ(items[i].offset % kSlotAlignment, 0U);
      EXPECT_LE(items[i].offset + items[i].bytes, total);
      for (size_t j = 0; j < i; ++j) {
        if (items[i].last < items[j].first || items[j].last < items[i].first) continue;
        if (items[i].bytes == 0 || items[j].bytes == 0) continue;
        EXPECT_TRUE(items[i].offset + items[i].bytes <= items[j].offset ||
                    items[j].offset + items[j].bytes <= items[i].offset);
      }
    }
  }
}

TEST(MemoryPlanner, ReusesMemoryOfTheDead) {
  constexpr uint64_t kBytes = 3 * kSlotAlignment;
  std::vector<Lifetime> chain{{kBytes, 0, 1}, {kBytes, 1, 2}, {kBytes, 2, 3}, {kBytes, 3, 4}};
  EXPECT_EQ(plan_offsets(chain), 2 * kBytes);
}

}  // namespace
}  // namespace halftone::compile
