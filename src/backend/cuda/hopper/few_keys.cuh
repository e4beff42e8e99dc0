// What attentions share whose keys all lie in shared memory: from the scores of 64 queries on,
// which a thread holds as attention_tile.cuh says.
#pragma once

#include "backend/cuda/hopper/attention_tile.cuh"
#include "backend/cuda/hopper/mma/wgmma.cuh"

namespace halftone::backend::cuda::hopper {

inline constexpr int kHeadRowBytes = kHeadDim * 2;  // of queries, keys and values

// Scores of all keys to weights, as the left operand of their product with the values. Leaves the
// thread's part of their sums in `state`.
template <Element kElement, int kCount>
__device__ __forceinline__ void weigh(float (&scores)[kCount], const int (&visible)[2],
                                      float scale_log2, int lane, RowState& state,
                                      uint32_t (&weights)[kCount / 8][4]) {
  mask_scores(scores, visible, lane);
  float shrink[2];
  const float scale[2] = {scale_log2, scale_log2};
  raise_top(scores, state, scale, shrink);
  soften(scores, state, scale, 0.0F, shrink);
  pack_weights<kElement>(scores, weights);
}

// Starts out = weights * values, whose rows lie at `values`; a group of its own.
template <Element kElement, int kSteps>
__device__ __forceinline__ void multiply_values(float (&out)[32],
                                                const uint32_t (&weights)[kSteps][4],
                                                uint32_t values) {
  const uint64_t v = operand_descriptor<kHeadRowBytes>(values);
  constexpr uint64_t kSixteenRows = 16 * kHeadRowBytes / 16;
  wgmma_begin();
#pragma unroll
  for (int i = 0; i < kSteps; ++i) {
    WgmmaRegisters64<kElement>::mma(out, weights[i], v + i * kSixteenRows,
                                    static_cast<int>(i != 0));
  }
  wgmma_commit();
}

}  // namespace halftone::backend::cuda::hopper
