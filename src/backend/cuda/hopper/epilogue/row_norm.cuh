// What the statistics of x's rows say to the epilogue of a linear that stands for their layer norm.
#pragma once

#include <cuda_runtime.h>

#include "backend/cuda/hopper/gemm_args.h"

namespace halftone::backend::cuda::hopper {

// scale = 1 / sqrt(variance + eps) and shift = -mean of kRows rows, the same in the four lanes of a
// quad, which share the slots; by whole warps. Slots are merged around the first one's mean, which
// loses at most a factor of the number of slots, whatever the rows' mean. `rows` are inside.
template <int kRows>
__device__ __forceinline__ void read_row_norms(const EpilogueArgs& e, const int (&rows)[kRows],
                                               int lane, float (&scale)[kRows],
                                               float (&shift)[kRows]) {
  const int slots = (e.x_columns + kStatisticsColumns - 1) / kStatisticsColumns;
  const auto* pairs = reinterpret_cast<const float2*>(e.x_statistics);
  float pivot[kRows];
  float first[kRows] = {};
  float second[kRows] = {};
  // Of up to 16 slots all reads are on their way together.
  constexpr int kHeld = 4;
  for (int from = 0; from < slots; from += 4 * kHeld) {
    float2 pair[kHeld][kRows];
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const int slot = min(from + 4 * i + lane % 4, slots - 1);
#pragma unroll
      for (int r = 0; r < kRows; ++r) pair[i][r] = pairs[int64_t{rows[r]} * slots + slot];
    }
    if (from == 0) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        pivot[r] = __shfl_sync(0xffffffffu, pair[0][r].x, lane & ~3);
      }
    }
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const int slot = from + 4 * i + lane % 4;
      const int left = e.x_columns - slot * kStatisticsColumns;
      const auto columns = static_cast<float>(max(min(kStatisticsColumns, left), 0));
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const float d = pair[i][r].x - pivot[r];
        first[r] = fmaf(columns, d, first[r]);
        second[r] += left > 0 ? fmaf(columns * d, d, pair[i][r].y) : 0.0f;
      }
    }
  }
  const float share = 1.0f / static_cast<float>(e.x_columns);
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int d = 1; d < 4; d *= 2) {
      first[r] += __shfl_xor_sync(0xffffffffu, first[r], d);
      second[r] += __shfl_xor_sync(0xffffffffu, second[r], d);
    }
    const float d = first[r] * share;
    const float variance = fmaxf(fmaf(-first[r], d, second[r]), 0.0f) * share;
    scale[r] = rsqrtf(variance + e.eps);
    shift[r] = -(pivot[r] + d);
  }
}

}  // namespace halftone::backend::cuda::hopper
