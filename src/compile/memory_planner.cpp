#include "compile/memory_planner.h"

#include <algorithm>
#include <numeric>

namespace halftone::compile {

uint64_t plan_offsets(std::vector<Lifetime>& lifetimes) {
  std::vector<size_t> order(lifetimes.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(
      order, [&](size_t a, size_t b) { return lifetimes[a].bytes > lifetimes[b].bytes; });
  const auto aligned = [](uint64_t bytes) {
    return (bytes + kSlotAlignment - 1) / kSlotAlignment * kSlotAlignment;
  };
  uint64_t total = 0;
  std::vector<size_t> placed;  // sorted by offset
  for (const size_t index : order) {
    Lifetime& item = lifetimes[index];
    uint64_t offset = 0;
    for (const size_t other : placed) {
      const Lifetime& taken = lifetimes[other];
      if (taken.last < item.first || item.last < taken.first) continue;
      if (taken.offset >= offset + aligned(item.bytes)) break;  // the gap before it is large enough
      offset = std::max(offset, taken.offset + aligned(taken.bytes));
    }
    item.offset = offset;
    total = std::max(total, offset + aligned(item.bytes));
    const auto at =
        std::ranges::upper_bound(placed, offset, {}, [&](size_t i) { return lifetimes[i].offset; });
    placed.insert(at, index);
  }
  return total;
}

}  // namespace halftone::compile
