#include "graph/ops/layer_norm.h"

#include "graph/ops/quantize.h"

namespace halftone::graph {

std::vector<TensorType> infer(const LayerNorm& op, std::span<const TypedOperand> in) {
  const TensorType& x = need_operand(in, Role::kX, "layer_norm");
  require(x.shape.rank() >= 1, "layer_norm", "wants x [..., channels]");
  for (const Role role : {Role::kGamma, Role::kBeta}) {
    require(need_operand(in, role, "layer_norm").shape == Shape{x.shape[-1]}, "layer_norm",
            "gamma and beta must be [channels]");
  }
  return quantized_norm_outputs("layer_norm", in, op.out, op.granularity, op.dynamic);
}

}  // namespace halftone::graph
