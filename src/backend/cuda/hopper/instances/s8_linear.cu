#include "backend/cuda/hopper/gemm_instance.cuh"
#include "backend/cuda/hopper/instances.h"

namespace halftone::backend::cuda::hopper {

std::vector<GemmKernel> s8_linear_kernels() {
  using enum Element;
  using enum Form;
  return {
      instance<kS8, kF16, kPlain, false, 128, 160, 128, 1, false>(),
      instance<kS8, kF16, kPlain, false, 128, 160, 128, 1, true>(),
      instance<kS8, kF16, kPlain, false, 128, 160, 128, 2, true>(),
      instance<kS8, kF16, kPlain, false, 128, 160, 128, 2, false>(),
      instance<kS8, kF16, kPlain, false, 128, 256, 128, 1, false>(),
      instance<kS8, kF16, kPlain, false, 128, 128, 128, 2, true>(),
      instance<kS8, kF16, kPlain, false, 128, 192, 128, 2, false>(),
      instance<kS8, kF16, kPlain, false, 64, 80, 128, 2, true>(),
      instance<kS8, kF16, kPlain, false, 64, 80, 128, 1, true, 0, 2>(),
      instance<kS8, kF16, kPlain, false, 64, 128, 128, 2, true>(),
      instance<kS8, kF16, kPlain, false, 64, 48, 128, 2, true>(),
      instance<kS8, kS8, kPlain, false, 128, 160, 128, 1, true>(),
      instance<kS8, kE4M3, kPlain, false, 128, 160, 128, 1, true>(),
  };
}

}  // namespace halftone::backend::cuda::hopper
