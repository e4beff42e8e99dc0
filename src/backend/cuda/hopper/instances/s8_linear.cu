#include "backend/cuda/hopper/instances.h"
#include "backend/cuda/hopper/instances/tiles_of_codes.cuh"

namespace halftone::backend::cuda::hopper {

std::vector<GemmKernel> s8_linear_kernels() {
  using enum Element;
  using enum Form;
  std::vector<GemmKernel> kernels = s8_linear_tiles<kF16>();
  kernels.insert(kernels.end(), {
                                    instance<kS8, kS8, kPlain, false, 128, 160, 128, 1, true>(),
                                    instance<kS8, kE4M3, kPlain, false, 128, 160, 128, 1, true>(),
                                });
  return kernels;
}

}  // namespace halftone::backend::cuda::hopper
