#include <algorithm>
#include <iterator>

#include "backend/cuda/hopper/instances.h"
#include "backend/cuda/hopper/instances/tiles_of_codes.cuh"

namespace halftone::backend::cuda::hopper {

std::vector<GemmKernel> e4m3_linear_kernels() {
  using enum Element;
  using enum Form;
  std::vector<GemmKernel> kernels = e4m3_linear_tiles<kF16>();
  std::ranges::copy(geglu_tiles<kE4M3, kE4M3>(), std::back_inserter(kernels));
  std::ranges::copy(geglu_tiles<kE4M3, kF16>(), std::back_inserter(kernels));
  kernels.insert(kernels.end(), {
                                    instance<kE4M3, kE4M3, kPlain, false, 128, 160, 128, 2, true>(),
                                    instance<kE4M3, kE4M3, kPlain, false, 64, 80, 128, 2, true>(),
                                });
  return kernels;
}

}  // namespace halftone::backend::cuda::hopper
