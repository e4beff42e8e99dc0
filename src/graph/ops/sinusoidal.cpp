#include "graph/ops/sinusoidal.h"

namespace halftone::graph {

std::vector<TensorType> infer(const Sinusoidal& op, std::span<const TypedOperand> in) {
  const TensorType& x = need_operand(in, Role::kX, "sinusoidal");
  require(op.dim >= 2 && op.dim % 2 == 0, "sinusoidal", "dim must be even and positive");
  std::vector<int64_t> dims = x.shape.dims();
  dims.push_back(op.dim);
  return {{DType::kF32, Shape(std::move(dims))}};
}

}  // namespace halftone::graph
