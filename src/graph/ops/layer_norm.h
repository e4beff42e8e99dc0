#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// y[..., c] = (x - mean) / sqrt(var + eps) * gamma[c] + beta[c] over the last axis, biased
// variance, statistics in fp32 at least. Operands kX, kGamma, kBeta, and kYScale for
// a static quantized output (graph/ops/quantize.h).
struct LayerNorm {
  static constexpr std::string_view kName = "layer_norm";
  double eps = 1e-5;
  DType out = DType::kF32;  // i8 or f8e4m3: ends in Quantize; else y has x's type
  Granularity granularity = Granularity::kPerTensor;  // of that quantization
  bool dynamic = false;

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f("eps", self.eps);
    f("out", self.out, DType::kF32);
    f("granularity", self.granularity, Granularity::kPerTensor);
    f("dynamic", self.dynamic, false);
  }
  bool operator==(const LayerNorm&) const = default;
};
std::vector<TensorType> infer(const LayerNorm& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
