#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// One scheduler step (tensor/step_coefficients.h): y[i] = sum_j update[i][j] * [state.., x,
// noise][j]. Operands kState [kMaxState, n, h, w, c], kX (guided output), kNoise, kCoefficients;
// all f32; y has kState's type.
struct LinearUpdate {
  static constexpr std::string_view kName = "linear_update";

  template <class Self, class F>
  static void fields(Self&, F&&) {}
  bool operator==(const LinearUpdate&) const = default;
};
std::vector<TensorType> infer(const LinearUpdate& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
