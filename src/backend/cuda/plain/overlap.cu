#include "backend/cuda/launch.h"
#include "backend/cuda/plain/overlap.cuh"

namespace halftone::backend::cuda {
namespace {

__global__ void waiting_kernel() { follow_previous_kernel(); }

}  // namespace

// Not of the device alone: a newer one may run a translation of code that was made without waits.
bool plain_kernels_wait() {
  cudaFuncAttributes attributes{};
  check(cudaFuncGetAttributes(&attributes, waiting_kernel),
        "asking what a kernel was compiled for");
  return attributes.ptxVersion >= 90;
}

}  // namespace halftone::backend::cuda
