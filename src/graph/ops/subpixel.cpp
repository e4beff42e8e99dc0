#include "graph/ops/subpixel.h"

namespace halftone::graph {

std::vector<TensorType> infer(const SubpixelWeight& /*op*/, std::span<const TypedOperand> in) {
  const TensorType& x = need_operand(in, Role::kX, "subpixel_weight");
  require(x.dtype == DType::kF32 && x.shape.rank() == 4 && x.shape[1] == 3 && x.shape[2] == 3,
          "subpixel_weight", "wants x f32 [out, 3, 3, in]");
  return {{DType::kF32, {4 * x.shape[0], 2, 2, x.shape[3]}}};
}

std::vector<TensorType> infer(const SubpixelMerge& /*op*/, std::span<const TypedOperand> in) {
  const TensorType& x = need_operand(in, Role::kX, "subpixel_merge");
  require(x.shape.rank() == 4 && x.shape[1] >= 2 && x.shape[2] >= 2 && x.shape[3] % 4 == 0,
          "subpixel_merge", "wants x [n, h + 1, w + 1, 4 c]");
  return {{x.dtype, {x.shape[0], 2 * (x.shape[1] - 1), 2 * (x.shape[2] - 1), x.shape[3] / 4}}};
}

}  // namespace halftone::graph
