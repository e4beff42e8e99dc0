#include "backend/cuda/hopper/instances.h"
#include "backend/cuda/hopper/project_attention.cuh"

namespace halftone::backend::cuda::hopper {

std::vector<ProjectKernel> f16_project_kernels() {
  return project_instances<Element::kF16, Element::kF16>();
}

}  // namespace halftone::backend::cuda::hopper
