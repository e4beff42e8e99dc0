#include "graph/ops/max_pool.h"

#include "graph/ops/quantize.h"

namespace halftone::graph {

std::vector<TensorType> infer(const MaxPool& op, std::span<const TypedOperand> in) {
  const TensorType& x = need_operand(in, Role::kX, "max_pool");
  require(is_floating(x.dtype) && !is_quantized(x.dtype), "max_pool", "wants a floating x");
  require(x.shape.rank() == 4 && op.size >= 1 && op.stride >= 1, "max_pool",
          "wants x [n, h, w, c] and positive size and stride");
  require(x.shape[1] >= op.size && x.shape[2] >= op.size, "max_pool",
          "the window is larger than the input");
  const auto extent = [&](int64_t from) { return (from - op.size) / op.stride + 1; };
  return {{x.dtype, {x.shape[0], extent(x.shape[1]), extent(x.shape[2]), x.shape[3]}}};
}

}  // namespace halftone::graph
