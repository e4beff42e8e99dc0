// Group statistics (graph/ops/group_norm.h) in questions and answers.
#pragma once

#include <vector>

#include "question.h"

namespace halftone::conformance {

// Of x [n, ..., c], in the order and type of the operand.
[[nodiscard]] std::vector<float> group_statistics(const Tensor& x, int64_t groups);
// Whether `statistics` are those of y.
void expect_group_statistics(const Tensor& y, const Tensor& statistics);

}  // namespace halftone::conformance
