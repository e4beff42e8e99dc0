#include "graph/ops/to_bytes.h"

namespace halftone::graph {

std::vector<TensorType> infer(const ToBytes& /*op*/, std::span<const TypedOperand> in) {
  const TensorType& x = need_operand(in, Role::kX, "to_bytes");
  require(x.dtype == DType::kF32, "to_bytes", "wants x f32");
  return {{DType::kU8, x.shape}, {DType::kF32, {1}}};
}

}  // namespace halftone::graph
