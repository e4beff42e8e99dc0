#include "backend/cuda/hopper/gemm_instance.cuh"
#include "backend/cuda/hopper/instances.h"

namespace halftone::backend::cuda::hopper {

std::vector<GemmKernel> bf16_conv_kernels() {
  using enum Element;
  using enum Form;
  return {
      instance<kBF16, kBF16, kPlain, true, 128, 160, 128, 2, false>(),
      instance<kBF16, kBF16, kPlain, true, 256, 160, 64, 1, false>(),
      instance<kBF16, kBF16, kPlain, true, 128, 256, 128, 2, false>(),
      instance<kBF16, kBF16, kPlain, true, 128, 128, 128, 2, false>(),
  };
}

}  // namespace halftone::backend::cuda::hopper
