#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// y[..., o] = act(sum_i x[..., i] * weight[o, i] + bias[o] + row_add[n, o]) + residual[..., o].
// With geglu the weight has 2*o rows: y = h[..., :o] * gelu_erf(h[..., o:]) (+ residual); act is
// none. Operands: kX [..., in], kWeight [out, in], optional kBias [out], kRowAdd [n, out] (n =
// first extent of x), kResidual (shape of y). Output dtype = x's.
struct Linear {
  static constexpr std::string_view kName = "linear";
  Activation activation = Activation::kNone;
  bool geglu = false;

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f("activation", self.activation);
    f("geglu", self.geglu);
  }
  bool operator==(const Linear&) const = default;
};
std::vector<TensorType> infer(const Linear& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
