#include "backend/cuda/hopper/instances.h"
#include "backend/cuda/hopper/project_attention.cuh"

namespace halftone::backend::cuda::hopper {

std::vector<ProjectKernel> bf16_project_kernels() {
  return project_instances<Element::kBF16, Element::kBF16>();
}

}  // namespace halftone::backend::cuda::hopper
