#include "graph/ops/group_norm.h"

#include <algorithm>

#include <fmt/format.h>

#include "graph/ops/concat.h"
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

TensorType group_norm_input(std::span<const TypedOperand> in) {
  std::vector<TypedOperand> parts;
  for (const TypedOperand& operand : in) {
    if (operand.role == Role::kX) parts.push_back(operand);
  }
  require(parts.size() == 1 || parts.size() == 2, "group_norm", "wants one or two parts of x");
  return infer(Concat{-1}, parts).front();
}

std::vector<TensorType> infer(const GroupNorm& op, std::span<const TypedOperand> in) {
  const TensorType x = group_norm_input(in);
  require(x.shape.rank() >= 2 && op.groups >= 1 && x.shape[-1] % op.groups == 0, "group_norm",
          fmt::format("{} channels do not divide into {} groups", x.shape[-1], op.groups));
  for (const Role role : {Role::kGamma, Role::kBeta}) {
    require(need_operand(in, role, "group_norm").shape == Shape{x.shape[-1]}, "group_norm",
            "gamma and beta must be [channels]");
  }
  if (const TensorType* statistics = find_operand(in, Role::kGroupStatistics)) {
    require(std::ranges::count(in, Role::kX, &TypedOperand::role) == 1, "group_norm",
            "takes statistics of one x, not of joined parts");
    require(*statistics == group_statistics_type("group_norm", x, op.groups), "group_norm",
            fmt::format("statistics {} are not those of x {} in {} groups", to_string(*statistics),
                        to_string(x), op.groups));
  }
  std::vector<TypedOperand> whole(in.begin(), in.end());
  std::ranges::find(whole, Role::kX, &TypedOperand::role)->type = x;
  std::vector<TensorType> outputs =
      quantized_norm_outputs("group_norm", whole, op.out, op.granularity, op.dynamic);
  const TensorType* scale = find_operand(in, Role::kXScale);
  const bool coded = op.joined == DType::kI8 || op.joined == DType::kF8E4M3;
  require(op.joins ? coded || op.joined == DType::kF32 : op.joined == DType::kF32, "group_norm",
          "joined is i8 or f8e4m3, or left as f32: then it has x's type");
  require(coded == (scale != nullptr) && (!coded || *scale == TensorType{DType::kF32, {1}}),
          "group_norm", "joined codes want one x_scale f32[1], values none");
  if (op.joins) outputs.push_back({coded ? op.joined : x.dtype, x.shape});
  return outputs;
}

}  // namespace halftone::graph
