#include "backend/cuda/hopper/instances.h"
#include "backend/cuda/hopper/instances/tiles_of_codes.cuh"

namespace halftone::backend::cuda::hopper {

std::vector<GemmKernel> e4m3_conv_kernels() {
  using enum Element;
  return e4m3_conv_tiles<kF16>();
}

}  // namespace halftone::backend::cuda::hopper
