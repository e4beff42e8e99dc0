#include "backend/cuda/hopper/gemm_instance.cuh"
#include "backend/cuda/hopper/instances.h"

namespace halftone::backend::cuda::hopper {

std::vector<GemmKernel> f16_conv_kernels() {
  using enum Element;
  using enum Form;
  return {
      instance<kF16, kF16, kPlain, true, 128, 160, 128, 1, false>(),
      instance<kF16, kF16, kPlain, true, 128, 160, 128, 2, false>(),
      instance<kF16, kF16, kPlain, true, 128, 256, 128, 2, false>(),
      instance<kF16, kF16, kPlain, true, 256, 160, 64, 1, false>(),
      instance<kF16, kF16, kPlain, true, 64, 80, 128, 2, true>(),
      instance<kF16, kF16, kPlain, true, 64, 80, 128, 1, true, 0, 2>(),
      instance<kF16, kF16, kPlain, true, 64, 160, 128, 1, true, 0, 2>(),
  };
}

}  // namespace halftone::backend::cuda::hopper
