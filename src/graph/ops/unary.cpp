#include "graph/ops/unary.h"

namespace halftone::graph {

std::vector<TensorType> infer(const Unary& /*op*/, std::span<const TypedOperand> in) {
  return {need_operand(in, Role::kX, "unary")};
}

}  // namespace halftone::graph
