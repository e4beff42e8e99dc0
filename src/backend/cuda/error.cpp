#include "backend/cuda/error.h"

#include <fmt/format.h>

#include "halftone/error.h"

namespace halftone::backend::cuda {

void check(cudaError_t code, std::string_view what, std::source_location location) {
  if (code == cudaSuccess) return;
  const Errc errc = code == cudaErrorMemoryAllocation ? Errc::kOutOfMemory : Errc::kDeviceLost;
  throw Error(
      errc,
      fmt::format("cuda: {}: {} ({})", what, cudaGetErrorString(code), cudaGetErrorName(code)),
      location);
}

void check_launch(std::string_view kernel, std::source_location location) {
  const cudaError_t code = cudaGetLastError();
  if (code != cudaSuccess) check(code, fmt::format("launching {}", kernel), location);
}

}  // namespace halftone::backend::cuda
