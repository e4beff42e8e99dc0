#include "backend/cuda/kernels.h"

namespace halftone::backend::cuda {

std::span<const Kernel* const> all_kernels() {
  static const Kernel* const kList[] = {
#define HALFTONE_KERNEL(name) &(name),
#include "backend/cuda/kernels.inc"
#undef HALFTONE_KERNEL
  };
  return kList;
}

}  // namespace halftone::backend::cuda
