// The largest magnitudes of a tile's elements as they are stored, for the quantization that reads
// them (graph/ops/quantize.h): of packed pairs while they are staged. In tiles of their own
// (T::kAmax): a branch in the others cost some of them a few registers.
#pragma once

#include <cstdint>

#include <cuda_fp16.h>

#include "backend/cuda/hopper/gemm_args.h"
#include "backend/cuda/hopper/tile.h"

namespace halftone::backend::cuda::hopper {

// A warp's word for each of its blocks; warps of a consumer side by side.
template <class T>
inline constexpr int kAmaxBytes = T::kBlocks * 16;

// Of the elements that a thread has of a block: those of row r, and those of r + 8. NaNs lose
// against everything.
template <Element kOut>
struct RowsAmax {
  uint32_t upper = 0;
  uint32_t lower = 0;

  static __device__ __forceinline__ uint32_t larger(uint32_t amax, uint32_t pair) {
    if constexpr (kOut == Element::kF16) {
      asm("{\n.reg .b32 magnitude;\nabs.f16x2 magnitude, %1;\nmax.f16x2 %0, %0, magnitude;\n}"
          : "+r"(amax)
          : "r"(pair));
    } else {
      asm("{\n.reg .b32 magnitude;\nabs.bf16x2 magnitude, %1;\nmax.bf16x2 %0, %0, magnitude;\n}"
          : "+r"(amax)
          : "r"(pair));
    }
    return amax;
  }

  // 16 columns, as store_matrices() takes them.
  __device__ __forceinline__ void add(const uint32_t (&words)[4]) {
    upper = larger(larger(upper, words[0]), words[2]);
    lower = larger(larger(lower, words[1]), words[3]);
  }

  // Of the warp's rows from `row` on that y has, as bits: those of magnitudes are ordered as they
  // are.
  [[nodiscard]] __device__ __forceinline__ uint32_t of_warp(const KernelArgs& args, int row) const {
    const uint32_t pair = larger(row < args.m ? upper : 0, row + 8 < args.m ? lower : 0);
    return __reduce_max_sync(0xFFFFFFFFU, max(pair & 0xFFFFU, pair >> 16));
  }
};

// By a consumer, behind a barrier that follows what its warps left at `from`: a warp for each
// block. The tiles of a line take its places in turn. Predicates, no branches: behind a branch that
// some threads take, the compiler no longer knows the stores' addresses to be the same in all.
template <class T>
__device__ __forceinline__ void write_amax(const KernelArgs& args, uint32_t from, int m, int n,
                                           int thread) {
  const int block = thread / 32;
  const int row = m + block * 64;
  const int parts = (args.n + kAmaxColumns - 1) / kAmaxColumns;
  const int tiles = (args.n + T::kOutN - 1) / T::kOutN;
  const int part = n / T::kOutN + thread % 32 * tiles;
  uint32_t warps[4];
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(warps[0]), "=r"(warps[1]), "=r"(warps[2]), "=r"(warps[3])
               : "r"(from + block % T::kBlocks * 16));
  const uint32_t amax = max(max(warps[0], warps[1]), max(warps[2], warps[3]));
  if (block < T::kBlocks && row < args.m && part < parts) {
    args.epilogue.amax[int64_t{row / 64} * parts + part] =
        T::kOut == Element::kF16 ? __half2float(__ushort_as_half(static_cast<uint16_t>(amax)))
                                 : __uint_as_float(amax << 16);
  }
}

}  // namespace halftone::backend::cuda::hopper
