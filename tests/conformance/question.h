// A case with its inputs filled, the reference's answer, and how close a kernel must come.
#pragma once

#include <vector>

#include "case.h"
#include "tensor/tensor.h"

namespace halftone::conformance {

// The inputs of a case with the reference's answers and, of the first, the magnitude of what is
// summed.
struct Question {
  std::vector<graph::TypedOperand> typed_inputs, typed_outputs;
  std::vector<Tensor> inputs;
  std::vector<Tensor> answers;
  std::vector<double> magnitude;

  [[nodiscard]] graph::OpDesc desc(const Case& c) const {
    return {c.attrs, typed_inputs, typed_outputs};
  }
};

// Typed outputs of an op on these inputs.
[[nodiscard]] std::vector<graph::TypedOperand> outputs_of(
    const graph::OpAttrs& attrs, std::span<const graph::TypedOperand> typed);
// The types alone, with nothing filled or computed.
[[nodiscard]] Question types_of(const Case& c);
[[nodiscard]] Question make_question(const Case& c);
// Adds failures for what lies outside the case's bounds, and for codes and scales that differ.
// `inner_roundings`: how often a kernel rounds to the output's type before the last sum, each time
// at most the magnitude's worth.
void expect_close(const Case& c, const Question& q, const std::vector<Tensor>& all,
                  double inner_roundings = 0.0);

}  // namespace halftone::conformance
