// The last one is for the numbers of channels of VAEs.
#include "backend/cuda/hopper/instances.h"
#include "backend/cuda/hopper/instances/tiles_of_16_bits.cuh"

namespace halftone::backend::cuda::hopper {

std::vector<GemmKernel> bf16_conv_kernels() {
  using enum Element;
  std::vector<GemmKernel> kernels = conv_tiles<kBF16>();
  kernels.push_back(instance<kBF16, kBF16, Form::kPlain, true, 128, 128, 128, 2, false>());
  return kernels;
}

}  // namespace halftone::backend::cuda::hopper
