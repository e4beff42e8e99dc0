#include "backend/cuda/hopper/instances.h"
#include "backend/cuda/hopper/instances/tiles_of_codes.cuh"

namespace halftone::backend::cuda::hopper {

std::vector<GemmKernel> e4m3_amax_kernels() {
  using enum Element;
  return amax_tiles<kE4M3, kF16>();
}

}  // namespace halftone::backend::cuda::hopper
