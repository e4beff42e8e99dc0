#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// The constants of a linear that reads the rows of x in place of their layer norm (gamma, beta):
//   weight'[o, i] = weight[o, i] * gamma[i], rounded once to weight's type;
//   column_sum[o] = sum_i weight'[o, i], f32;
//   bias'[o] = bias[o] + sum_i weight[o, i] * beta[i], in weight's type.
// Sums are made in double and rounded once. Operands kWeight [out, in], kGamma and kBeta [in],
// optional kBias [out]; three outputs in the order above.
struct NormWeight {
  static constexpr std::string_view kName = "norm_weight";
  template <class Self, class F>
  static void fields(Self& /*self*/, F&& /*f*/) {}
  bool operator==(const NormWeight&) const = default;
};
std::vector<TensorType> infer(const NormWeight& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
