// CUDA's error codes as halftone::Error.
#pragma once

#include <source_location>
#include <string_view>

#include <cuda_runtime.h>

namespace halftone::backend::cuda {

// Throws when `code` is no success: kOutOfMemory for lack of memory, else kDeviceLost. `what` says
// what was being done: "allocating 12 bytes".
void check(cudaError_t code, std::string_view what,
           std::source_location location = std::source_location::current());

// After a kernel launch: a wrong configuration shows here.
void check_launch(std::string_view kernel,
                  std::source_location location = std::source_location::current());

}  // namespace halftone::backend::cuda
