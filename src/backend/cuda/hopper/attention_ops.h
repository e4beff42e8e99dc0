// Attentions of the graph as problems of the Hopper kernels.
#pragma once

#include "backend/backend.h"
#include "backend/cuda/hopper/project_attention.h"

namespace halftone::backend::cuda {

// Of an attention that "cuda.attention.project.hopper" serves.
[[nodiscard]] hopper::ProjectProblem project_problem_of(const graph::OpDesc& desc,
                                                        const Operands& operands);

}  // namespace halftone::backend::cuda
