// Amax (graph/ops/quantize.h) in questions and answers.
#pragma once

#include <vector>

#include "tensor/tensor.h"

namespace halftone::conformance {

// Of x, its columns dealt out to the parts of a line one by one.
[[nodiscard]] std::vector<float> dealt_amax(const Tensor& x);
// Whether `amax` is that of y: the largest of each line is y's bit for bit, NaNs passed over.
void expect_amax(const Tensor& y, const Tensor& amax);

}  // namespace halftone::conformance
