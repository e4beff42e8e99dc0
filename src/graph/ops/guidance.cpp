#include "graph/ops/guidance.h"

#include "tensor/step_coefficients.h"

namespace halftone::graph {

std::vector<TensorType> infer(const Guidance& /*op*/, std::span<const TypedOperand> in) {
  TensorType y = need_operand(in, Role::kX, "guidance");
  require(need_operand(in, Role::kCoefficients, "guidance") ==
              TensorType{DType::kF32, {kNumStepCoefficients}},
          "guidance", "wants coefficients f32[kNumStepCoefficients]");
  require(y.dtype == DType::kF32 && y.shape.rank() >= 1 && y.shape[0] % 2 == 0, "guidance",
          "wants x f32[2n, ...]");
  y.shape[0] /= 2;
  return {y};
}

}  // namespace halftone::graph
