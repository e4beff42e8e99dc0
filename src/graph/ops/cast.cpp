#include "graph/ops/cast.h"

namespace halftone::graph {

std::vector<TensorType> infer(const Cast& op, std::span<const TypedOperand> in) {
  const TensorType& x = need_operand(in, Role::kX, "cast");
  require(is_floating(x.dtype) && is_floating(op.dtype), "cast", "converts floating types only");
  return {{op.dtype, x.shape}};
}

}  // namespace halftone::graph
