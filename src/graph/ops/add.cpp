#include "graph/ops/add.h"

#include <fmt/format.h>

namespace halftone::graph {

std::vector<TensorType> infer(const Add& op, std::span<const TypedOperand> in) {
  require(in.size() == 2, "add", "wants two operands");
  const TensorType& a = in[0].type;
  const Shape& b = in[1].type.shape;
  const bool rows = a.shape.rank() >= 2 && b == Shape({a.shape[0], a.shape[-1]});
  const bool table = a.shape.rank() == 3 && b == Shape({a.shape[1], a.shape[2]});
  require(op.broadcast_batch ? table : (b == a.shape || rows), "add",
          fmt::format("b {} does not fit a {}", to_string(b), to_string(a)));
  return {a};
}

}  // namespace halftone::graph
