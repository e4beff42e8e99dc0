#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// Group normalisation over x [n, ..., c]: statistics per (n, group of c/groups channels) over all
// inner positions, in fp32 at least; y = act((x - mean) / sqrt(var + eps) * gamma[c] + beta[c]),
// biased variance. Operands kX, kGamma, kBeta.
struct GroupNorm {
  static constexpr std::string_view kName = "group_norm";
  int64_t groups = 32;
  double eps = 1e-5;
  Activation activation = Activation::kNone;

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f("groups", self.groups);
    f("eps", self.eps);
    f("activation", self.activation);
  }
  bool operator==(const GroupNorm&) const = default;
};
std::vector<TensorType> infer(const GroupNorm& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
