#include "backend/cuda/hopper/gemm_instance.cuh"
#include "backend/cuda/hopper/instances.h"

namespace halftone::backend::cuda::hopper {

std::vector<GemmKernel> s8_amax_kernels() {
  using enum Element;
  using enum Form;
  return {
      amax_instance<kS8, kGeglu, 128, 160, 1, true>(),
      amax_instance<kS8, kGeglu, 128, 160, 2, true>(),
      amax_instance<kS8, kGeglu, 128, 160, 2, false>(),
      amax_instance<kS8, kPlain, 128, 160, 2, true>(),
      amax_instance<kS8, kPlain, 128, 160, 2, false>(),
      amax_instance<kS8, kPlain, 64, 80, 2, true>(),
  };
}

}  // namespace halftone::backend::cuda::hopper
