#include "graph/ops/select_row.h"

namespace halftone::graph {

std::vector<TensorType> infer(const SelectRow& /*op*/, std::span<const TypedOperand> in) {
  const TensorType& x = need_operand(in, Role::kX, "select_row");
  const TensorType& index = need_operand(in, Role::kIndex, "select_row");
  require(x.shape.rank() == 3 && index == TensorType{DType::kI32, {x.shape[0]}}, "select_row",
          "wants x [n, t, c] and index i32[n]");
  return {{x.dtype, {x.shape[0], x.shape[2]}}};
}

}  // namespace halftone::graph
