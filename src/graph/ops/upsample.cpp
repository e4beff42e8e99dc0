#include "graph/ops/upsample.h"

namespace halftone::graph {

std::vector<TensorType> infer(const Upsample& op, std::span<const TypedOperand> in) {
  const TensorType& x = need_operand(in, Role::kX, "upsample");
  const bool has_pixels = x.shape.rank() == 4 && x.shape[1] >= 1 && x.shape[2] >= 1;
  require(has_pixels && op.out_h >= 1 && op.out_w >= 1, "upsample",
          "wants x [n, h, w, c] with a pixel at least and positive output sizes");
  return {{x.dtype, {x.shape[0], op.out_h, op.out_w, x.shape[3]}}};
}

}  // namespace halftone::graph
