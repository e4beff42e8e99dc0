#include <algorithm>
#include <iterator>

#include "backend/cuda/hopper/instances.h"
#include "backend/cuda/hopper/instances/tiles_of_codes.cuh"

namespace halftone::backend::cuda::hopper {

std::vector<GemmKernel> e4m3_activated_kernels() {
  using enum Element;
  std::vector<GemmKernel> kernels = activated_tiles<kE4M3, kE4M3>();
  std::ranges::copy(activated_tiles<kE4M3, kF16>(), std::back_inserter(kernels));
  std::ranges::copy(activated_tiles<kE4M3, kBF16>(), std::back_inserter(kernels));
  return kernels;
}

}  // namespace halftone::backend::cuda::hopper
