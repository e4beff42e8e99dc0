// Statistics of the rows of a staged output tile: what a layer norm of the output would need.
#pragma once

#include "backend/cuda/hopper/epilogue/epilogue.cuh"

namespace halftone::backend::cuda::hopper {

// Tiles that can: of whole slots, so that a slot is one tile's.
template <class T>
inline constexpr bool kMeasuresRows = bytes_of(T::kOut) == 2 && !T::kConv
                                      && T::kForm == Form::kPlain
                                      && T::kOutN % kStatisticsColumns == 0;

// (mean, sum of squared deviations) of the first `chunks` 16-byte chunks of a slot of a staged row.
template <class T>
__device__ __forceinline__ float2 slot_statistics(uint32_t block, int row, int first, int chunks) {
  constexpr int kChunks = kStatisticsColumns / 8;
  uint4 words[kChunks];
#pragma unroll
  for (int i = 0; i < kChunks; ++i) {
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[i].x), "=r"(words[i].y), "=r"(words[i].z), "=r"(words[i].w)
                 : "r"(block + staged<T>(row, first + i)));
  }
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kChunks; ++i) {
    if (i >= chunks) continue;
    const uint32_t pairs[4] = {words[i].x, words[i].y, words[i].z, words[i].w};
    float part = 0.0f;
#pragma unroll
    for (const uint32_t pair : pairs) {
      const float2 v = unpack<T::kOut>(pair);
      part += v.x + v.y;
    }
    sum += part;
  }
  const float mean = sum / static_cast<float>(chunks * 8);
  float squares = 0.0f;
#pragma unroll
  for (int i = 0; i < kChunks; ++i) {
    if (i >= chunks) continue;
    const uint32_t pairs[4] = {words[i].x, words[i].y, words[i].z, words[i].w};
#pragma unroll
    for (const uint32_t pair : pairs) {
      const float2 v = unpack<T::kOut>(pair);
      squares = fmaf(v.x - mean, v.x - mean, squares);
      squares = fmaf(v.y - mean, v.y - mean, squares);
    }
  }
  return {mean, squares};
}

// By all threads of a consumer warpgroup, behind a barrier that follows the last write of the
// staging area. Rows have whole chunks (n is a multiple of 8).
template <class T>
__device__ __forceinline__ void write_row_statistics(const KernelArgs& args, uint32_t staging,
                                                     TilePosition at, int thread) {
  constexpr int kSlots = T::kOutN / kStatisticsColumns;  // of a tile
  const int slots = (args.n + kStatisticsColumns - 1) / kStatisticsColumns;
  auto* y = reinterpret_cast<float2*>(args.epilogue.y_statistics);
  // Addresses are made here, not kept in registers through the main loop.
  asm volatile("" : "+r"(thread), "+r"(staging));
#pragma unroll 1
  for (int i = thread; i < T::kBlocks * 64 * kSlots; i += 128) {
    const int row = i % 64;
    const int slot = i / 64 % kSlots;
    const int block = i / 64 / kSlots;
    const int m = at.m + block * 64 + row;
    const int column = at.n + slot * kStatisticsColumns;
    if (m >= args.m || column >= args.n) continue;
    const int chunks = min(kStatisticsColumns, args.n - column) / 8;
    y[int64_t{m} * slots + column / kStatisticsColumns] = slot_statistics<T>(
        staging + block * 64 * T::kOutRowBytes, row, slot * (kStatisticsColumns / 8), chunks);
  }
}

}  // namespace halftone::backend::cuda::hopper
