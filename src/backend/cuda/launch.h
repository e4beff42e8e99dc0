// Launches of our kernels, which may overlap (programmatic dependent launch): when every block of a
// kernel has come to follow_previous_kernel() (plain/overlap.cuh), blocks of the next one take the
// room that is left and wait there in turn until the kernel before them has ended and its writes
// are visible. So a kernel's start hides behind its predecessor's end. Matrix kernels let the next
// come before they wait themselves: it still waits for them, and so for what they wait for.
#pragma once

#include <string_view>
#include <type_traits>

#include <cuda_runtime.h>

#include "backend/cuda/error.h"

namespace halftone::backend::cuda {

// Whether launches overlap, process-wide. create_cuda_device decides; tests compare both.
[[nodiscard]] bool overlaps_launches();
void set_overlap_launches(bool on);

// Whether the plain kernels were compiled for architectures that can wait (plain/overlap.cu).
[[nodiscard]] bool plain_kernels_wait();

[[nodiscard]] inline cudaLaunchAttribute overlap_attribute() {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  return attribute;
}

// `kernel` must begin with follow_previous_kernel() in all of its threads; a kernel behind
// something else than a kernel (a copy, a clearing) waits for it as ever. `name` is for the error.
template <class... Params>
void launch(std::string_view name, void (*kernel)(Params...), dim3 blocks, int threads,
            size_t shared_bytes, cudaStream_t stream, std::type_identity_t<Params>... args) {
  cudaLaunchAttribute attribute = overlap_attribute();
  cudaLaunchConfig_t config{};
  config.gridDim = blocks;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = overlaps_launches() ? 1 : 0;
  void* addresses[] = {&args...};
  const auto* function = reinterpret_cast<const void*>(kernel);
  if (cudaLaunchKernelExC(&config, function, addresses) != cudaSuccess) check_launch(name);
}

}  // namespace halftone::backend::cuda
