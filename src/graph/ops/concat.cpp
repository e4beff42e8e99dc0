#include "graph/ops/concat.h"

#include <fmt/format.h>

namespace halftone::graph {

std::vector<TensorType> infer(const Concat& op, std::span<const TypedOperand> in) {
  require(!in.empty(), "concat", "wants at least one operand");
  TensorType y = in[0].type;
  const auto rank = static_cast<int64_t>(y.shape.rank());
  require(op.axis >= -rank && op.axis < rank, "concat", "axis out of range");
  const int axis = static_cast<int>(op.axis < 0 ? op.axis + rank : op.axis);
  for (size_t i = 1; i < in.size(); ++i) {
    Shape expected = y.shape;
    require(in[i].type.dtype == y.dtype && in[i].type.shape.rank() == y.shape.rank(), "concat",
            "operands must share dtype and rank");
    expected[axis] = in[i].type.shape[axis];
    require(in[i].type.shape == expected, "concat",
            fmt::format("{} does not fit {}", to_string(in[i].type), to_string(y)));
    y.shape[axis] += in[i].type.shape[axis];
  }
  return {y};
}

}  // namespace halftone::graph
