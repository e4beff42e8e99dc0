// The tiles of products in 16 bits: the same ones for f16 and for bf16, each compiled in a file of
// its own.
#pragma once

#include <vector>

#include "backend/cuda/hopper/gemm_instance.cuh"

namespace halftone::backend::cuda::hopper {

template <Element kType>
[[nodiscard]] std::vector<GemmKernel> linear_tiles() {
  using enum Form;
  return {
      instance<kType, kType, kPlain, false, 128, 160, 128, 2, true>(),
      instance<kType, kType, kPlain, false, 128, 160, 128, 1, false>(),
      instance<kType, kType, kPlain, false, 128, 160, 128, 2, false>(),
      instance<kType, kType, kPlain, false, 128, 256, 128, 1, false>(),
      instance<kType, kType, kPlain, false, 64, 80, 128, 2, true>(),
      instance<kType, kType, kPlain, false, 64, 80, 128, 1, true>(),
      instance<kType, kType, kPlain, false, 64, 80, 128, 1, true, 0, 2>(),
      instance<kType, kType, kPlain, false, 64, 128, 128, 2, true>(),
      instance<kType, kType, kPlain, false, 64, 48, 128, 2, true>(),
      instance<kType, kType, kActivated, false, 128, 160, 128, 2, true>(),
      instance<kType, kType, kActivated, false, 64, 80, 128, 2, true>(),
      instance<kType, kType, kActivated, false, 64, 48, 128, 2, true>(),
      instance<kType, kType, kGeglu, false, 128, 160, 128, 1, true>(),
      instance<kType, kType, kGeglu, false, 128, 160, 128, 2, true>(),
      instance<kType, kType, kGeglu, false, 128, 160, 128, 2, false>(),
  };
}

template <Element kType>
[[nodiscard]] std::vector<GemmKernel> conv_tiles() {
  using enum Form;
  return {
      instance<kType, kType, kPlain, true, 128, 160, 128, 1, false>(),
      instance<kType, kType, kPlain, true, 128, 160, 128, 2, false>(),
      instance<kType, kType, kPlain, true, 128, 256, 128, 2, false>(),
      instance<kType, kType, kPlain, true, 256, 160, 64, 1, false>(),
      instance<kType, kType, kPlain, true, 64, 80, 128, 2, true>(),
      instance<kType, kType, kPlain, true, 64, 80, 128, 1, true, 0, 2>(),
      instance<kType, kType, kPlain, true, 64, 160, 128, 1, true, 0, 2>(),
  };
}

}  // namespace halftone::backend::cuda::hopper
