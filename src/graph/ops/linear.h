#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// y[..., o] = act(sum_i x[..., i] * weight[o, i] + bias[o] + row_add[n, o]) + residual[..., o].
// With geglu the weight has 2*o rows: y = h[..., :o] * gelu_erf(h[..., o:]) (+ residual); act is
// none. Operands: kX [..., in], kWeight [out, in], optional kBias [out], kRowAdd [n, out] (n =
// first extent of x), kResidual (shape of y), and for quantized forms kXScale (f32[1] or one a row
// of x), kWScale, kYScale: types, arithmetic and `out` as in graph/ops/quantize.h.
struct Linear {
  static constexpr std::string_view kName = "linear";
  Activation activation = Activation::kNone;
  bool geglu = false;
  DType out = DType::kF32;

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f("activation", self.activation);
    f("geglu", self.geglu);
    f("out", self.out, DType::kF32);
  }
  bool operator==(const Linear&) const = default;
};
std::vector<TensorType> infer(const Linear& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
