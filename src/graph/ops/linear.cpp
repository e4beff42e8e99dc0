#include "graph/ops/linear.h"

#include <fmt/format.h>

#include "graph/ops/quantize.h"

namespace halftone::graph {

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
  return {y};
}

}  // namespace halftone::graph
