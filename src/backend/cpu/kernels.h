// The list of the CPU's kernels.
#pragma once

#include <span>

#include "backend/backend.h"

namespace halftone::backend::cpu {

#define HALFTONE_KERNEL(name) extern const Kernel name;
#include "backend/cpu/kernels.inc"
#undef HALFTONE_KERNEL

// kernels.inc, then the reference of every op.
[[nodiscard]] std::span<const Kernel* const> all_kernels();

}  // namespace halftone::backend::cpu
