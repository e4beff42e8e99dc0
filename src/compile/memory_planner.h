// Offsets for tensors that live at the same time, by liveness.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace halftone::compile {

// A tensor (or workspace) alive from call `first` to call `last`, both included.
struct Lifetime {
  uint64_t bytes = 0;
  size_t first = 0;
  size_t last = 0;
  uint64_t offset = 0;  // result
};

inline constexpr uint64_t kSlotAlignment = 256;  // what GPU kernels count on

// Assigns offsets so that overlapping lifetimes never overlap in memory; returns the bytes needed.
// Greedy: largest first, each at the lowest offset that is free over its lifetime.
uint64_t plan_offsets(std::vector<Lifetime>& lifetimes);

}  // namespace halftone::compile
