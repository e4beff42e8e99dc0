#include "graph/ops/scale.h"

#include <fmt/format.h>

namespace halftone::graph {

std::vector<TensorType> infer(const Scale& op, std::span<const TypedOperand> in) {
  const TensorType& x = need_operand(in, Role::kX, "scale");
  const TensorType& gamma = need_operand(in, Role::kGamma, "scale");
  require(op.axis == 0 || op.axis == -1, "scale", "axis is 0 or -1");
  require(x.shape.rank() >= 1 && is_floating(x.dtype) && is_floating(gamma.dtype), "scale",
          "wants floating tensors");
  require(
      gamma.shape == Shape{x.shape[static_cast<int>(op.axis)]}, "scale",
      fmt::format("gamma {} does not fit axis {} of {}", to_string(gamma), op.axis, to_string(x)));
  return {x};
}

}  // namespace halftone::graph
