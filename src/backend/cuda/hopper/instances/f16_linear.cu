#include "backend/cuda/hopper/gemm_instance.cuh"
#include "backend/cuda/hopper/instances.h"

namespace halftone::backend::cuda::hopper {

std::vector<GemmKernel> f16_linear_kernels() {
  using enum Element;
  using enum Form;
  return {
      instance<kF16, kF16, kPlain, false, 128, 160, 128, 2, true>(),
      instance<kF16, kF16, kPlain, false, 128, 160, 128, 1, false>(),
      instance<kF16, kF16, kPlain, false, 128, 160, 128, 2, false>(),
      instance<kF16, kF16, kPlain, false, 128, 256, 128, 1, false>(),
      instance<kF16, kF16, kPlain, false, 64, 80, 128, 2, true>(),
      instance<kF16, kF16, kPlain, false, 64, 80, 128, 1, true>(),
      instance<kF16, kF16, kPlain, false, 64, 80, 128, 1, true, 0, 2>(),
      instance<kF16, kF16, kPlain, false, 64, 128, 128, 2, true>(),
      instance<kF16, kF16, kPlain, false, 64, 48, 128, 2, true>(),
      instance<kF16, kF16, kActivated, false, 128, 160, 128, 2, true>(),
      instance<kF16, kF16, kActivated, false, 64, 80, 128, 2, true>(),
      instance<kF16, kF16, kActivated, false, 64, 48, 128, 2, true>(),
      instance<kF16, kF16, kGeglu, false, 128, 160, 128, 1, true>(),
      instance<kF16, kF16, kGeglu, false, 128, 160, 128, 2, true>(),
      instance<kF16, kF16, kGeglu, false, 128, 160, 128, 2, false>(),
  };
}

}  // namespace halftone::backend::cuda::hopper
