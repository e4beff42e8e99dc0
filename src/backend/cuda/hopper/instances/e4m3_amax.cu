#include "backend/cuda/hopper/gemm_instance.cuh"
#include "backend/cuda/hopper/instances.h"

namespace halftone::backend::cuda::hopper {

std::vector<GemmKernel> e4m3_amax_kernels() {
  using enum Element;
  using enum Form;
  return {
      amax_instance<kE4M3, kGeglu, 128, 160, 1, true>(),
      amax_instance<kE4M3, kGeglu, 128, 160, 2, true>(),
      amax_instance<kE4M3, kGeglu, 128, 160, 2, false>(),
      amax_instance<kE4M3, kPlain, 128, 160, 2, true>(),
      amax_instance<kE4M3, kPlain, 128, 160, 2, false, 8>(),
      amax_instance<kE4M3, kPlain, 64, 80, 2, true>(),
  };
}

}  // namespace halftone::backend::cuda::hopper
