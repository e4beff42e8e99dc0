#include "backend/cuda/hopper/instances.h"
#include "backend/cuda/hopper/instances/tiles_of_codes.cuh"

namespace halftone::backend::cuda::hopper {

std::vector<GemmKernel> s8_conv_kernels() {
  using enum Element;
  return s8_conv_tiles<kF16>();
}

}  // namespace halftone::backend::cuda::hopper
