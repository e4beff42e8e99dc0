#include "graph/ops/transpose.h"

namespace halftone::graph {

std::vector<TensorType> infer(const Transpose& op, std::span<const TypedOperand> in) {
  const TensorType& x = need_operand(in, Role::kX, "transpose");
  require(op.perm.size() == x.shape.rank() && !op.perm.empty(), "transpose",
          "perm must name every axis once, one at least");
  std::vector<int64_t> dims;
  std::vector<bool> seen(op.perm.size(), false);
  for (const int64_t axis : op.perm) {
    const auto i = static_cast<size_t>(axis);
    require(axis >= 0 && i < seen.size() && !seen[i], "transpose",
            "perm must name every axis once");
    seen[i] = true;
    dims.push_back(x.shape.dims()[i]);
  }
  return {{x.dtype, Shape(std::move(dims))}};
}

}  // namespace halftone::graph
