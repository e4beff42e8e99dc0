#include "graph/ops/reshape.h"

#include <fmt/format.h>

namespace halftone::graph {

std::vector<TensorType> infer(const Reshape& op, std::span<const TypedOperand> in) {
  const TensorType& x = need_operand(in, Role::kX, "reshape");
  const Shape shape(op.shape);
  for (const int64_t extent : op.shape)
    require(extent >= 0, "reshape", "extents must not be negative");
  require(shape.num_elements() == x.shape.num_elements(), "reshape",
          fmt::format("{} does not hold as many elements as {}", to_string(shape), to_string(x)));
  return {{x.dtype, shape}};
}

}  // namespace halftone::graph
