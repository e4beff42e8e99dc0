#include "backend/cuda/hopper/gemm_instance.cuh"
#include "backend/cuda/hopper/instances.h"

namespace halftone::backend::cuda::hopper {

std::vector<GemmKernel> s8_geglu_kernels() {
  using enum Element;
  using enum Form;
  return {
      instance<kS8, kS8, kGeglu, false, 128, 160, 128, 1, true>(),
      instance<kS8, kS8, kGeglu, false, 128, 160, 128, 2, true>(),
      instance<kS8, kS8, kGeglu, false, 128, 160, 128, 2, false>(),
      instance<kS8, kF16, kGeglu, false, 128, 160, 128, 1, true>(),
      instance<kS8, kF16, kGeglu, false, 128, 160, 128, 2, true>(),
      instance<kS8, kF16, kGeglu, false, 128, 160, 128, 2, false>(),
  };
}

}  // namespace halftone::backend::cuda::hopper
