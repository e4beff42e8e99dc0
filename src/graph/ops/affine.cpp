#include "graph/ops/affine.h"

namespace halftone::graph {

std::vector<TensorType> infer(const Affine& op, std::span<const TypedOperand> in) {
  require(op.low <= op.high, "affine", "low must not exceed high");
  return {need_operand(in, Role::kX, "affine")};
}

}  // namespace halftone::graph
