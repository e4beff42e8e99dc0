// The scalars of one denoising step, as the step graph reads them: one small f32 buffer.
#pragma once

#include <cstdint>

namespace halftone {

// The sample and at most four latents of history.
inline constexpr int kMaxState = 5;

// next_state[i] = sum_j update[i][j] * [state_0 .. state_4, output, noise][j]; state_0 is the
// sample. `output` is the guided model output; the model saw input_scale * state_0.
struct StepCoefficients {
  float input_scale = 1.0F;
  float guidance = 1.0F;  // epsilon = e_u + guidance * (e_c - e_u)
  float update[kMaxState][kMaxState + 2] = {};
};
inline constexpr int64_t kNumStepCoefficients = sizeof(StepCoefficients) / sizeof(float);
static_assert(kNumStepCoefficients == 2 + kMaxState * (kMaxState + 2));

}  // namespace halftone
