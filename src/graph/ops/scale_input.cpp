#include "graph/ops/scale_input.h"

#include "tensor/step_coefficients.h"

namespace halftone::graph {

std::vector<TensorType> infer(const ScaleInput& op, std::span<const TypedOperand> in) {
  const TensorType& state = need_operand(in, Role::kState, "scale_input");
  require(need_operand(in, Role::kCoefficients, "scale_input") ==
              TensorType{DType::kF32, {kNumStepCoefficients}},
          "scale_input", "wants coefficients f32[kNumStepCoefficients]");
  require(state.shape.rank() == 5 && state.shape[0] == kMaxState && state.dtype == DType::kF32,
          "scale_input", "wants state f32[5, n, h, w, c]");
  require(op.copies >= 1, "scale_input", "copies must be positive");
  return {
      {DType::kF32, {op.copies * state.shape[1], state.shape[2], state.shape[3], state.shape[4]}}};
}

}  // namespace halftone::graph
