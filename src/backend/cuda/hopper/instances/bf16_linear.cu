#include "backend/cuda/hopper/instances.h"
#include "backend/cuda/hopper/instances/tiles_of_16_bits.cuh"

namespace halftone::backend::cuda::hopper {

std::vector<GemmKernel> bf16_linear_kernels() { return linear_tiles<Element::kBF16>(); }

}  // namespace halftone::backend::cuda::hopper
