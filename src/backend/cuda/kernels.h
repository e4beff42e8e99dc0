// The list of CUDA's kernels.
#pragma once

#include <span>

#include "backend/backend.h"

namespace halftone::backend::cuda {

#define HALFTONE_KERNEL(name) extern const Kernel name;
#include "backend/cuda/kernels.inc"
#undef HALFTONE_KERNEL

[[nodiscard]] std::span<const Kernel* const> all_kernels();

}  // namespace halftone::backend::cuda
