#include "graph/ops/slice.h"

#include <fmt/format.h>

namespace halftone::graph {

std::vector<TensorType> infer(const Slice& op, std::span<const TypedOperand> in) {
  TensorType y = need_operand(in, Role::kX, "slice");
  const auto rank = static_cast<int64_t>(y.shape.rank());
  require(op.axis >= -rank && op.axis < rank, "slice", "axis out of range");
  const int axis = static_cast<int>(op.axis);
  require(op.begin >= 0 && op.begin <= op.end && op.end <= y.shape[axis], "slice",
          fmt::format("[{}, {}) lies outside {}", op.begin, op.end, to_string(y)));
  y.shape[axis] = op.end - op.begin;
  return {y};
}

}  // namespace halftone::graph
