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
  float first[kRows];
  float second[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    pivot[r] = pairs[int64_t{rows[r]} * slots].x;
    first[r] = 0.0f;
    second[r] = 0.0f;
  }
  for (int slot = lane % 4; slot < slots; slot += 4) {
    const auto columns =
        static_cast<float>(min(kStatisticsColumns, e.x_columns - slot * kStatisticsColumns));
    float2 pair[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) pair[r] = pairs[int64_t{rows[r]} * slots + slot];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float d = pair[r].x - pivot[r];
      first[r] = fmaf(columns, d, first[r]);
      second[r] += fmaf(columns * d, d, pair[r].y);
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
