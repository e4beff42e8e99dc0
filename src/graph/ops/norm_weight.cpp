#include "graph/ops/norm_weight.h"

#include "graph/ops/quantize.h"

namespace halftone::graph {

std::vector<TensorType> infer(const NormWeight& /*op*/, std::span<const TypedOperand> in) {
  const TensorType& weight = need_operand(in, Role::kWeight, "norm_weight");
  require(weight.shape.rank() == 2, "norm_weight", "wants weight [out, in]");
  for (const TypedOperand& operand : in) {
    require(is_floating(operand.type.dtype) && !is_quantized(operand.type.dtype), "norm_weight",
            "wants floating operands");
  }
  for (const Role role : {Role::kGamma, Role::kBeta}) {
    require(need_operand(in, role, "norm_weight").shape == Shape{weight.shape[1]}, "norm_weight",
            "gamma and beta must be [in]");
  }
  const TensorType sums{DType::kF32, {weight.shape[0]}};
  if (const TensorType* bias = find_operand(in, Role::kBias)) {
    require(bias->shape == sums.shape, "norm_weight", "bias must be [out]");
  }
  return {weight, sums, {weight.dtype, sums.shape}};
}

}  // namespace halftone::graph
