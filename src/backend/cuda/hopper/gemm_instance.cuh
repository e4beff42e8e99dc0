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

// A linear's that takes amax.
template <Element kIn, Form kForm, int kBm, int kBn, int kCluster, bool kPingPong, int kPromote = 0>
[[nodiscard]] GemmKernel amax_instance() {
  return instance<kIn, Element::kF16, kForm, false, kBm, kBn, 128, kCluster, kPingPong, kPromote, 1,
                  true>();
}

}  // namespace halftone::backend::cuda::hopper
