#include "graph/ops/linear.h"

#include <fmt/format.h>

#include "graph/ops/group_norm.h"
#include "graph/ops/quantize.h"

namespace halftone::graph {
namespace {

void check_statistics(const Linear& op, std::span<const TypedOperand> in) {
  const TensorType& x = need_operand(in, Role::kX, "linear");
  const TensorType* statistics = find_operand(in, Role::kRowStatistics);
  const TensorType* sums = find_operand(in, Role::kColumnSum);
  require((statistics == nullptr) == (sums == nullptr), "linear",
          "row_statistics and column_sum go together");
  require(statistics != nullptr || op.eps == 0.0, "linear", "eps goes with row_statistics");
  require(int{op.row_statistics} + int{op.statistics_groups != 0} + int{op.amax} <= 1, "linear",
          "makes statistics of rows or of groups or amax");
  if (statistics == nullptr && !op.row_statistics) return;
  const TensorType& weight = need_operand(in, Role::kWeight, "linear");
  require(!is_quantized(x.dtype) && !is_quantized(weight.dtype) &&
              find_operand(in, Role::kYScale) == nullptr,
          "linear", "no row statistics of quantized operands");
  if (statistics == nullptr) return;
  require(*statistics == row_statistics_type(x.shape), "linear",
          fmt::format("row_statistics is {}, wanted {}", to_string(*statistics),
                      to_string(row_statistics_type(x.shape))));
  require(*sums == TensorType{DType::kF32, {weight.shape[0]}}, "linear",
          "column_sum must be f32 [out]");
}

}  // namespace

TensorType row_statistics_type(const Shape& rows) {
  const int64_t slots = (rows.row_size() + kStatisticsColumns - 1) / kStatisticsColumns;
  return {DType::kF32, {rows.num_rows(), slots, 2}};
}

std::vector<TensorType> infer(const Linear& op, std::span<const TypedOperand> in) {
  const TensorType& x = need_operand(in, Role::kX, "linear");
  const TensorType& weight = need_operand(in, Role::kWeight, "linear");
  require(x.shape.rank() >= 1 && weight.shape.rank() == 2, "linear",
          "wants x [..., in], weight [out, in]");
  check_quantized_operands("linear", in, true);
  require(x.shape[-1] == unpacked_row("linear", x, weight), "linear",
          fmt::format("x {} does not fit weight {}", to_string(x), to_string(weight)));
  require(!op.geglu || (weight.shape[0] % 2 == 0 && op.activation == Activation::kNone), "linear",
          "geglu wants an even number of weight rows and no other activation");
  TensorType y{output_dtype("linear", in, op.out), x.shape};
  y.shape[-1] = op.geglu ? weight.shape[0] / 2 : weight.shape[0];
  if (const TensorType* bias = find_operand(in, Role::kBias)) {
    require(bias->shape == Shape{weight.shape[0]}, "linear", "bias must be [out]");
  }
  if (const TensorType* add = find_operand(in, Role::kRowAdd)) {
    require(add->shape == Shape({x.shape[0], weight.shape[0]}), "linear",
            "row_add must be [n, out]");
  }
  if (const TensorType* residual = find_operand(in, Role::kResidual)) {
    require(residual->shape == y.shape, "linear", "residual must have the output's shape");
  }
  check_statistics(op, in);
  if (op.row_statistics) return {y, row_statistics_type(y.shape)};
  if (op.statistics_groups == 0 && !op.amax) return {y};
  require(op.statistics_groups >= 0 && is_floating(y.dtype) && !is_quantized(y.dtype), "linear",
          "makes group statistics and amax of floating results");
  if (op.amax) return {y, amax_type(y.shape)};
  return {y, group_statistics_type("linear", y, op.statistics_groups)};
}

}  // namespace halftone::graph
