#include "graph/ops/geglu.h"

namespace halftone::graph {

std::vector<TensorType> infer(const Geglu& /*op*/, std::span<const TypedOperand> in) {
  TensorType y = need_operand(in, Role::kX, "geglu");
  require(y.shape.rank() >= 1 && y.shape[-1] % 2 == 0, "geglu", "wants an even number of channels");
  y.shape[-1] /= 2;
  return {y};
}

}  // namespace halftone::graph
