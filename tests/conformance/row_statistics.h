// Row statistics (graph/ops/linear.h) in questions and answers.
#pragma once

#include <span>

#include "question.h"

namespace halftone::conformance {

// Fills the operands that describe others.
void derive_inputs(const Case& c, Question& q);
// Magnitudes of sums of products, made those of normalized rows where the linear has them.
void scale_by_deviation(const Question& q, std::span<float> magnitude);
// Whether `statistics` are those of y's rows.
void expect_row_statistics(const Tensor& y, const Tensor& statistics);
// Sums in double, rounded once to the type of the answer.
void expect_sums(const Tensor& want, const Tensor& got);

}  // namespace halftone::conformance
