#include <algorithm>
#include <iterator>

#include "backend/cuda/hopper/instances.h"
#include "backend/cuda/hopper/project_attention.cuh"

namespace halftone::backend::cuda::hopper {

std::vector<ProjectKernel> e4m3_project_kernels() {
  std::vector<ProjectKernel> kernels = project_instances<Element::kE4M3, Element::kF16>();
  std::ranges::copy(project_instances<Element::kE4M3, Element::kBF16>(),
                    std::back_inserter(kernels));
  return kernels;
}

}  // namespace halftone::backend::cuda::hopper
