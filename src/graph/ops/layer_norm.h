#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// y[..., c] = (x - mean) / sqrt(var + eps) * gamma[c] + beta[c] over the last axis, biased
// variance, statistics in fp32 at least. Operands kX, kGamma, kBeta.
struct LayerNorm {
  static constexpr std::string_view kName = "layer_norm";
  double eps = 1e-5;

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f("eps", self.eps);
  }
  bool operator==(const LayerNorm&) const = default;
};
std::vector<TensorType> infer(const LayerNorm& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
