#include "backend/cuda/hopper/instances.h"
#include "backend/cuda/hopper/instances/tiles_of_16_bits.cuh"

namespace halftone::backend::cuda::hopper {

std::vector<GemmKernel> f16_conv_kernels() { return conv_tiles<Element::kF16>(); }

}  // namespace halftone::backend::cuda::hopper
