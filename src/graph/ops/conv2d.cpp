#include "graph/ops/conv2d.h"

#include <algorithm>

#include <fmt/format.h>

#include "graph/ops/group_norm.h"
#include "graph/ops/quantize.h"

namespace halftone::graph {

std::vector<TensorType> infer(const Conv2d& op, std::span<const TypedOperand> in) {
  const TensorType& x = need_operand(in, Role::kX, "conv2d");
  const TensorType& weight = need_operand(in, Role::kWeight, "conv2d");
  check_quantized_operands("conv2d", in, false);
  require(x.shape.rank() == 4 && weight.shape.rank() == 4 &&
              x.shape[3] == unpacked_row("conv2d", x, weight),
          "conv2d",
          fmt::format("x {} does not fit weight {} ([n,h,w,in] and [out,kh,kw,in])", to_string(x),
                      to_string(weight)));
  require(op.stride >= 1 && op.pad_begin >= 0 && op.pad_end >= 0, "conv2d",
          "bad stride or padding");
  const int64_t narrowest = std::min(weight.shape[1], weight.shape[2]);
  require(op.pad_begin < narrowest && op.pad_end < narrowest, "conv2d",
          fmt::format("padding {} and {} fills the window of a kernel {}", op.pad_begin, op.pad_end,
                      to_string(weight.shape)));
  const auto extent = [&](int64_t size, int64_t kernel) {
    const int64_t span = size + op.pad_begin + op.pad_end - kernel;
    require(span >= 0, "conv2d", "the kernel is larger than the padded input");
    return span / op.stride + 1;
  };
  TensorType y{output_dtype("conv2d", in, op.out),
               {x.shape[0], extent(x.shape[1], weight.shape[1]),
                extent(x.shape[2], weight.shape[2]), weight.shape[0]}};
  if (const TensorType* bias = find_operand(in, Role::kBias)) {
    require(bias->shape == Shape{weight.shape[0]}, "conv2d", "bias must be [out]");
  }
  if (const TensorType* add = find_operand(in, Role::kRowAdd)) {
    require(add->shape == Shape({x.shape[0], weight.shape[0]}), "conv2d",
            "row_add must be [n, out]");
  }
  if (const TensorType* residual = find_operand(in, Role::kResidual)) {
    require(residual->shape == y.shape, "conv2d", "residual must have the output's shape");
  }
  if (op.interleaved) {
    const bool is_alone =
        find_operand(in, Role::kRowAdd) == nullptr && find_operand(in, Role::kResidual) == nullptr;
    require(is_alone && y.shape[1] >= 2 && y.shape[2] >= 2 && y.shape[3] % 4 == 0, "conv2d",
            "interleaves [n, h + 1, w + 1, 4 c] without row add and residual only");
    y.shape = {y.shape[0], 2 * (y.shape[1] - 1), 2 * (y.shape[2] - 1), y.shape[3] / 4};
  }
  if (op.statistics_groups == 0 && !op.amax) return {y};
  require((op.amax ? op.statistics_groups == 0 : op.statistics_groups > 0) && !op.interleaved &&
              is_floating(y.dtype) && !is_quantized(y.dtype),
          "conv2d", "makes group statistics or amax of floating results that are not interleaved");
  if (op.amax) return {y, amax_type(y.shape)};
  return {y, group_statistics_type("conv2d", y, op.statistics_groups)};
}

}  // namespace halftone::graph
