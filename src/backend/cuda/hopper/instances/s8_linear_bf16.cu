#include <algorithm>
#include <iterator>

#include "backend/cuda/hopper/instances.h"
#include "backend/cuda/hopper/instances/tiles_of_codes.cuh"

namespace halftone::backend::cuda::hopper {

std::vector<GemmKernel> s8_linear_bf16_kernels() {
  using enum Element;
  std::vector<GemmKernel> kernels = s8_linear_tiles<kBF16>();
  std::ranges::copy(geglu_tiles<kS8, kBF16>(), std::back_inserter(kernels));
  return kernels;
}

}  // namespace halftone::backend::cuda::hopper
