#include "graph/ops/linear_update.h"

#include "tensor/step_coefficients.h"

namespace halftone::graph {

std::vector<TensorType> infer(const LinearUpdate& /*op*/, std::span<const TypedOperand> in) {
  const TensorType& state = need_operand(in, Role::kState, "linear_update");
  const TensorType& x = need_operand(in, Role::kX, "linear_update");
  const TensorType& noise = need_operand(in, Role::kNoise, "linear_update");
  require(need_operand(in, Role::kCoefficients, "linear_update") ==
              TensorType{DType::kF32, {kNumStepCoefficients}},
          "linear_update", "wants coefficients f32[kNumStepCoefficients]");
  require(state.shape.rank() == 5 && state.shape[0] == kMaxState && state.dtype == DType::kF32,
          "linear_update", "wants state f32[5, n, h, w, c]");
  require(x == noise && x.dtype == DType::kF32 &&
              x.shape == Shape({state.shape[1], state.shape[2], state.shape[3], state.shape[4]}),
          "linear_update", "x and noise must be f32 with one state slot's shape");
  return {state};
}

}  // namespace halftone::graph
