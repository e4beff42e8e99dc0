// The other way out of the staging area: results of a sub-pixel convolution go to their places in
// the enlarged image, where a row of a tile is a pixel and a column a parity's channel.
#pragma once

#include "backend/cuda/hopper/epilogue/epilogue.cuh"

namespace halftone::backend::cuda::hopper {

// By all threads of a consumer warpgroup, behind a barrier that follows the last write of the
// staging area: T::kEndedRows rows of each block, from `first_row` on.
template <class T>
__device__ __forceinline__ void store_interleaved(const KernelArgs& args, uint32_t staging,
                                                  TilePosition at, int first_row, int thread) {
  constexpr int kChunks = T::kOutRowBytes / 16;
  constexpr int kElements = 16 / bytes_of(T::kOut);
  static_assert(T::kOutRowBytes % 16 == 0);
  const InterleaveArgs& to = args.conv.interleave;
#pragma unroll
  for (int block = 0; block < T::kBlocks; ++block) {
    for (int i = thread; i < T::kEndedRows * kChunks; i += 128) {
      const int row = first_row + i / kChunks;
      const int chunk = i % kChunks;
      const int m = at.m + block * 64 + row;
      const int column = at.n + chunk * kElements;
      if (m >= args.m || column >= args.n) continue;
      const int parity = column / to.channels;  // channels are whole chunks
      const int image = m / args.conv.pixels;
      const int pixel = m - image * args.conv.pixels;
      const int line = pixel / args.conv.out_w;
      // Parity (p, q) of pixel (h, w) lies at output (h + p, w + q) of the convolution.
      const int p = parity / 2;
      const int q = parity % 2;
      const int h = line - p;
      const int w = pixel - line * args.conv.out_w - q;
      if (h < 0 || h >= to.h || w < 0 || w >= to.w) continue;
      const int64_t place = (int64_t{image} * 2 * to.h + 2 * h + p) * 2 * to.w + 2 * w + q;
      uint4 v;
      asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                   : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                   : "r"(staging + block * 64 * T::kOutRowBytes + staged<T>(row, chunk)));
      auto* y = static_cast<uint8_t*>(to.y) +
                (place * to.channels + column - parity * to.channels) * bytes_of(T::kOut);
      *reinterpret_cast<uint4*>(y) = v;
    }
  }
}

}  // namespace halftone::backend::cuda::hopper
