#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// y = activation(x), elementwise. GELU is the erf form, kGeluTanh the tanh form, quick-GELU is
// x * sigmoid(1.702 x).
struct Unary {
  static constexpr std::string_view kName = "unary";
  Activation activation = Activation::kSilu;

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f("activation", self.activation);
  }
  bool operator==(const Unary&) const = default;
};
std::vector<TensorType> infer(const Unary& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
