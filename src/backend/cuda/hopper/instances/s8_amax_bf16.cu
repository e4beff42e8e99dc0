#include "backend/cuda/hopper/instances.h"
#include "backend/cuda/hopper/instances/tiles_of_codes.cuh"

namespace halftone::backend::cuda::hopper {

std::vector<GemmKernel> s8_amax_bf16_kernels() {
  using enum Element;
  return amax_tiles<kS8, kBF16>();
}

}  // namespace halftone::backend::cuda::hopper
