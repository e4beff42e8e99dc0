// The last ones are for the numbers of channels of VAEs.
#include "backend/cuda/hopper/instances.h"
#include "backend/cuda/hopper/instances/tiles_of_codes.cuh"

namespace halftone::backend::cuda::hopper {

std::vector<GemmKernel> s8_conv_bf16_kernels() {
  using enum Element;
  using enum Form;
  std::vector<GemmKernel> kernels = s8_conv_tiles<kBF16>();
  kernels.insert(kernels.end(), {
                                    instance<kS8, kBF16, kPlain, true, 128, 128, 128, 1, false>(),
                                    instance<kS8, kBF16, kPlain, true, 128, 256, 128, 2, false>(),
                                    instance<kS8, kBF16, kPlain, true, 256, 128, 128, 1, false>(),
                                });
  return kernels;
}

}  // namespace halftone::backend::cuda::hopper
