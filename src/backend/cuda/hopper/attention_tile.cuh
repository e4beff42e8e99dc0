// What the attention kernels share: softmax and output of a warpgroup's 64 queries.
//
// Of a 64 x n block of sums a thread holds rows r = 16 * warp + lane / 4 and r + 8 and, of every 8
// columns, two: s[4 i] and s[4 i + 1] are row r at columns 8 i + 2 * (lane % 4) and the next,
// s[4 i + 2] and s[4 i + 3] row r + 8 there.
#pragma once

#include <cstdint>

#include "backend/cuda/hopper/attention.h"
#include "backend/cuda/hopper/epilogue/math.cuh"
#include "backend/cuda/hopper/ptx/barrier.cuh"
#include "backend/cuda/hopper/ptx/tma.cuh"

namespace halftone::backend::cuda::hopper {

inline constexpr int kOutRowBytes = kHeadDim * 2;
inline constexpr uint32_t kOutBytes = 64 * kOutRowBytes;  // of a warpgroup

// A block's two warpgroups take turns in handing products to the tensor cores, so that the softmax
// of one runs beside the products of the other. A turn is passed when scores have come (16 bits) or
// all products have ended (8 bits): measured, as each costs the other kernel time. Warpgroup 1
// opens with a pass_turn; every wait_turn has one before it.
__device__ __forceinline__ void wait_turn(int warpgroup) { named_sync(3 + warpgroup, 256); }
__device__ __forceinline__ void pass_turn(int warpgroup) { named_arrive(3 + (warpgroup ^ 1), 256); }

// Of the two rows that a thread shares with the other three of its quad; `sum` is the thread's own
// part.
struct RowState {
  float top[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0, 0};
};

// Takes the scores into the maxima; gives the factors that older sums shrink by.
template <int kCount>
__device__ __forceinline__ void raise_top(const float (&s)[kCount], RowState& state,
                                          const float (&scale)[2], float (&shrink)[2]) {
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    float top = state.top[row];
#pragma unroll
    for (int i = 0; i < kCount; i += 4) {
      top = fmaxf(top, fmaxf(s[i + 2 * row], s[i + 2 * row + 1]));
    }
    top = fmaxf(top, __shfl_xor_sync(0xffffffffU, top, 1));
    top = fmaxf(top, __shfl_xor_sync(0xffffffffU, top, 2));
    shrink[row] = power_of_two((state.top[row] - top) * scale[row]);
    state.top[row] = top;
  }
}

// Scores to weights 2^(scale * (s - top) + lift), which join the sums.
template <int kCount>
__device__ __forceinline__ void soften(float (&s)[kCount], RowState& state, const float (&scale)[2],
                                       float lift, const float (&shrink)[2]) {
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    const float shift = fmaf(-state.top[row], scale[row], lift);
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kCount; i += 4) {
      float& a = s[i + 2 * row];
      float& b = s[i + 2 * row + 1];
      a = power_of_two(fmaf(a, scale[row], shift));
      b = power_of_two(fmaf(b, scale[row], shift));
      sum += a + b;
    }
    state.sum[row] = fmaf(state.sum[row], shrink[row], sum);
  }
}

// Keys from visible[row] on get no weight.
template <int kCount>
__device__ __forceinline__ void mask_scores(float (&s)[kCount], const int (&visible)[2], int lane) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const int key = i / 4 * 8 + lane % 4 * 2 + i % 2;
    if (key >= visible[i % 4 / 2]) s[i] = -INFINITY;
  }
}

// The first factor is row r's, the second row r + 8's.
__device__ __forceinline__ void scale_rows(float (&out)[32], const float (&factor)[2]) {
#pragma unroll
  for (int i = 0; i < 32; ++i) out[i] *= factor[i % 4 / 2];
}

// Weights as the left operand of a product in 16 bits: word k of fragment i.
template <Element kElement, int kCount>
__device__ __forceinline__ void pack_weights(const float (&s)[kCount],
                                             uint32_t (&weights)[kCount / 8][4]) {
#pragma unroll
  for (int i = 0; i < kCount / 8; ++i) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      weights[i][k] = pack<kElement>(s[8 * i + 2 * k], s[8 * i + 2 * k + 1]);
    }
  }
}

// The whole sums of both rows.
__device__ __forceinline__ void sum_of_quad(const RowState& state, float (&sum)[2]) {
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    sum[row] = state.sum[row];
    sum[row] += __shfl_xor_sync(0xffffffffU, sum[row], 1);
    sum[row] += __shfl_xor_sync(0xffffffffU, sum[row], 2);
  }
}

// What a result is multiplied by before it is rounded to kOut.
template <Element kOut>
__device__ __forceinline__ float unit_of(const AttentionKernelArgs& args) {
  if constexpr (bytes_of(kOut) == 1) return __frcp_rn(*args.y_scale);
  return 1.0F;
}

// Before a result takes the place of the warpgroup's queries: rows of codes are half as long, so
// that a warp's lie where others' queries were, and these must have been read.
template <Element kOut>
__device__ __forceinline__ void await_readers(int barrier) {
  if constexpr (bytes_of(kOut) == 1) named_sync(barrier, 128);
}

// The warpgroup's rows as codes.
template <Element kOut>
__device__ __forceinline__ void put_code_rows(const float (&out)[32], uint32_t base, int lane) {
  const int warp = static_cast<int>(threadIdx.x) % 128 / 32;
  const int row = warp * 16 + lane / 4;
  const uint32_t at = base + row * kHeadDim + lane % 4 * 2;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const uint32_t chunk = ((i / 2) ^ (row >> 1 & 3)) * 16 + i % 2 * 8;
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const auto pair =
          static_cast<uint16_t>(pack<kOut>(out[4 * i + 2 * k], out[4 * i + 2 * k + 1]));
      asm volatile("st.shared.b16 [%0], %1;" ::"r"(at + chunk + k * 8 * kHeadDim), "h"(pair)
                   : "memory");
    }
  }
  fence_async_shared();
}

// The warpgroup's rows to shared memory at `base` (64 elements a row, swizzled over as much), for
// the copy engine.
template <Element kElement>
__device__ __forceinline__ void put_rows(const float (&out)[32], uint32_t base, int lane) {
  if constexpr (bytes_of(kElement) == 1) return put_code_rows<kElement>(out, base, lane);
  const int warp = static_cast<int>(threadIdx.x) % 128 / 32;
  const int row = warp * 16 + lane % 16;
#pragma unroll
  for (int chunk = 0; chunk < 8; chunk += 2) {
    const uint32_t at = base + row * kOutRowBytes + (((chunk + lane / 16) ^ (row & 7)) * 16);
    const float* v = out + chunk * 4;
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(at),
                 "r"(pack<kElement>(v[0], v[1])), "r"(pack<kElement>(v[2], v[3])),
                 "r"(pack<kElement>(v[4], v[5])), "r"(pack<kElement>(v[6], v[7]))
                 : "memory");
  }
  fence_async_shared();
}

// Where a block's tiles of keys and values lie in shared memory, and the barriers that hand them
// over: one of the queries, then four a stage.
template <uint32_t kKeysAt, uint32_t kValuesAt, uint32_t kBarriersAt, uint32_t kTileBytes>
struct TileStages {
  uint32_t base;
  [[nodiscard]] __device__ uint32_t keys(int s) const { return base + kKeysAt + s * kTileBytes; }
  [[nodiscard]] __device__ uint32_t values(int s) const {
    return base + kValuesAt + s * kTileBytes;
  }
  [[nodiscard]] __device__ uint32_t barrier(int i) const { return base + kBarriersAt + i * 8; }
  [[nodiscard]] __device__ uint32_t queries_full() const { return barrier(0); }
  [[nodiscard]] __device__ uint32_t keys_full(int s) const { return barrier(1 + s * 4); }
  [[nodiscard]] __device__ uint32_t keys_empty(int s) const { return barrier(2 + s * 4); }
  [[nodiscard]] __device__ uint32_t values_full(int s) const { return barrier(3 + s * 4); }
  [[nodiscard]] __device__ uint32_t values_empty(int s) const { return barrier(4 + s * 4); }
};

}  // namespace halftone::backend::cuda::hopper
