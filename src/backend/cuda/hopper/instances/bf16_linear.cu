#include "backend/cuda/hopper/gemm_instance.cuh"
#include "backend/cuda/hopper/instances.h"

namespace halftone::backend::cuda::hopper {

std::vector<GemmKernel> bf16_linear_kernels() {
  using enum Element;
  using enum Form;
  return {
      instance<kBF16, kBF16, kPlain, false, 128, 160, 128, 2, true>(),
      instance<kBF16, kBF16, kPlain, false, 64, 80, 128, 2, true>(),
      instance<kBF16, kBF16, kPlain, false, 64, 80, 128, 1, true, 0, 2>(),
      instance<kBF16, kBF16, kGeglu, false, 128, 160, 128, 2, true>(),
  };
}

}  // namespace halftone::backend::cuda::hopper
