#include "backend/cuda/hopper/gemm_instance.cuh"
#include "backend/cuda/hopper/instances.h"

namespace halftone::backend::cuda::hopper {

std::vector<GemmKernel> e4m3_linear_kernels() {
  using enum Element;
  using enum Form;
  return {
      instance<kE4M3, kF16, kPlain, false, 128, 160, 128, 1, false, 8>(),
      instance<kE4M3, kF16, kPlain, false, 128, 160, 128, 1, true>(),
      instance<kE4M3, kF16, kPlain, false, 128, 160, 128, 2, false, 8>(),
      instance<kE4M3, kF16, kPlain, false, 128, 160, 128, 2, true>(),
      instance<kE4M3, kF16, kPlain, false, 128, 256, 128, 1, false>(),
      instance<kE4M3, kF16, kPlain, false, 64, 80, 128, 2, true>(),
      instance<kE4M3, kF16, kPlain, false, 64, 80, 128, 1, true, 0, 2>(),
      instance<kE4M3, kF16, kPlain, false, 64, 128, 128, 2, true>(),
      instance<kE4M3, kE4M3, kPlain, false, 128, 160, 128, 2, true>(),
      instance<kE4M3, kE4M3, kPlain, false, 64, 80, 128, 2, true>(),
      instance<kE4M3, kE4M3, kGeglu, false, 128, 160, 128, 1, true>(),
      instance<kE4M3, kE4M3, kGeglu, false, 128, 160, 128, 2, true>(),
      instance<kE4M3, kE4M3, kGeglu, false, 128, 160, 128, 2, false>(),
      instance<kE4M3, kF16, kGeglu, false, 128, 160, 128, 1, true>(),
      instance<kE4M3, kF16, kGeglu, false, 128, 160, 128, 2, true>(),
      instance<kE4M3, kF16, kGeglu, false, 128, 160, 128, 2, false>(),
  };
}

}  // namespace halftone::backend::cuda::hopper
