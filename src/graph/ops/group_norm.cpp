#include "graph/ops/group_norm.h"

#include <fmt/format.h>

#include "graph/ops/quantize.h"

namespace halftone::graph {

TensorType group_statistics_type(std::string_view op, const TensorType& y, int64_t groups) {
  const Shape& shape = y.shape;
  const int64_t rows = shape.rank() >= 2 && shape[0] > 0 ? shape.num_rows() / shape[0] : 0;
  require(rows > 0 && rows % kRowsPerPiece == 0 && shape[-1] % groups == 0, op,
          fmt::format("makes statistics of {} groups in images of a multiple of {} rows, not of {}",
                      groups, kRowsPerPiece, to_string(y)));
  return {DType::kF32, {shape[0], groups, rows / kRowsPerPiece, 2}};
}

std::vector<TensorType> infer(const GroupNorm& op, std::span<const TypedOperand> in) {
  const TensorType& x = need_operand(in, Role::kX, "group_norm");
  require(x.shape.rank() >= 2 && op.groups >= 1 && x.shape[-1] % op.groups == 0, "group_norm",
          fmt::format("{} channels do not divide into {} groups", x.shape[-1], op.groups));
  for (const Role role : {Role::kGamma, Role::kBeta}) {
    require(need_operand(in, role, "group_norm").shape == Shape{x.shape[-1]}, "group_norm",
            "gamma and beta must be [channels]");
  }
  if (const TensorType* statistics = find_operand(in, Role::kGroupStatistics)) {
    require(*statistics == group_statistics_type("group_norm", x, op.groups), "group_norm",
            fmt::format("statistics {} are not those of x {} in {} groups", to_string(*statistics),
                        to_string(x), op.groups));
  }
  return quantized_norm_outputs("group_norm", in, op.out, op.granularity, op.dynamic);
}

}  // namespace halftone::graph
