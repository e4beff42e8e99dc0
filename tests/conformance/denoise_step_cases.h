#pragma once

#include "case.h"
#include "tensor/step_coefficients.h"

namespace halftone::conformance {

inline std::vector<Case> denoise_step_cases() {
  std::vector<Case> cases;
  const auto f32 = [](Role role, Shape shape, Fill fill) {
    return Input{role, {DType::kF32, std::move(shape)}, fill};
  };
  for (const Fill fill : {Fill::kIntegers, Fill::kNormal}) {
    const bool exact = fill == Fill::kIntegers;
    const std::string name = exact ? "exact" : "rounded";
    const Input coefficients = f32(Role::kCoefficients, {kNumStepCoefficients}, fill);
    for (const int64_t size : {3, 32}) {
      const Input state = f32(Role::kState, {kMaxState, 2, size, size, 4}, fill);
      const Input sample = f32(Role::kX, {2, size, size, 4}, fill);
      const Input noise = f32(Role::kNoise, {2, size, size, 4}, fill);
      cases.push_back({name + std::to_string(size),
                       graph::ScaleInput{2},
                       {state, coefficients},
                       exact ? 0.0 : 1.0,
                       0.0});
      // One product and two sums; seven products and their sums.
      cases.push_back({name + std::to_string(size),
                       graph::Guidance{},
                       {sample, coefficients},
                       exact ? 0.0 : 1.0,
                       exact ? 0.0 : 3.0});
      cases.push_back({name + std::to_string(size),
                       graph::LinearUpdate{},
                       {state, sample, noise, coefficients},
                       exact ? 0.0 : 1.0,
                       exact ? 0.0 : 8.0});
    }
  }
  return cases;
}

}  // namespace halftone::conformance
