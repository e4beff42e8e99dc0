#include "backend/cuda/hopper/gemm_instance.cuh"
#include "backend/cuda/hopper/instances.h"

namespace halftone::backend::cuda::hopper {

std::vector<GemmKernel> e4m3_conv_kernels() {
  using enum Element;
  using enum Form;
  return {
      instance<kE4M3, kF16, kPlain, true, 128, 160, 128, 1, false, 8>(),
      instance<kE4M3, kF16, kPlain, true, 128, 160, 128, 2, false, 8>(),
      instance<kE4M3, kF16, kPlain, true, 128, 160, 64, 2, false, 16>(),
      instance<kE4M3, kF16, kPlain, true, 256, 160, 64, 1, false>(),
      instance<kE4M3, kF16, kPlain, true, 256, 160, 64, 2, false>(),
      instance<kE4M3, kF16, kPlain, true, 64, 80, 128, 1, true, 8, 2>(),
      instance<kE4M3, kF16, kPlain, true, 64, 160, 128, 1, true, 8, 2>(),
      instance<kE4M3, kBF16, kPlain, true, 128, 128, 128, 1, false, 8>(),
      instance<kE4M3, kBF16, kPlain, true, 128, 160, 128, 2, false, 8>(),
      instance<kE4M3, kBF16, kPlain, true, 128, 256, 128, 2, false>(),
      instance<kE4M3, kBF16, kPlain, true, 256, 128, 128, 1, false>(),
  };
}

}  // namespace halftone::backend::cuda::hopper
