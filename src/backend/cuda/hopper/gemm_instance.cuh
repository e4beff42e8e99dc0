// For the files that hold compiled kernels: the table entry of one tile shape.
#pragma once

#include "backend/cuda/hopper/gemm.h"
#include "backend/cuda/hopper/gemm_kernel.cuh"

namespace halftone::backend::cuda::hopper {

template <Element kIn, Element kOut, Form kForm, bool kConv, int kBm, int kBn, int kRowBytes,
          int kCluster, bool kPingPong, int kPromote = 0, int kSplit = 1, bool kAmax = false>
[[nodiscard]] GemmKernel instance() {
  using T = Tile<kIn, kOut, kForm, kConv, kBm, kBn, kRowBytes, kCluster, kPingPong, kPromote,
                 kSplit, kAmax>;
  return describe<T>(reinterpret_cast<const void*>(&gemm_kernel<T>), kMeasuresGroups<T>);
}

}  // namespace halftone::backend::cuda::hopper
