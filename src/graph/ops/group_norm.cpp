#include "graph/ops/group_norm.h"

#include <fmt/format.h>

#include "graph/ops/quantize.h"

namespace halftone::graph {

std::vector<TensorType> infer(const GroupNorm& op, std::span<const TypedOperand> in) {
  const TensorType& x = need_operand(in, Role::kX, "group_norm");
  require(x.shape.rank() >= 2 && op.groups >= 1 && x.shape[-1] % op.groups == 0, "group_norm",
          fmt::format("{} channels do not divide into {} groups", x.shape[-1], op.groups));
  for (const Role role : {Role::kGamma, Role::kBeta}) {
    require(need_operand(in, role, "group_norm").shape == Shape{x.shape[-1]}, "group_norm",
            "gamma and beta must be [channels]");
  }
  return quantized_norm_outputs("group_norm", in, op.out, op.granularity, op.dynamic);
}

}  // namespace halftone::graph
