#include "graph/ops/embedding.h"

namespace halftone::graph {

std::vector<TensorType> infer(const Embedding& /*op*/, std::span<const TypedOperand> in) {
  const TensorType& index = need_operand(in, Role::kIndex, "embedding");
  const TensorType& weight = need_operand(in, Role::kWeight, "embedding");
  require(index.dtype == DType::kI32 && weight.shape.rank() == 2, "embedding",
          "wants index i32[...] and weight [rows, channels]");
  std::vector<int64_t> dims = index.shape.dims();
  dims.push_back(weight.shape[1]);
  return {{weight.dtype, Shape(std::move(dims))}};
}

}  // namespace halftone::graph
