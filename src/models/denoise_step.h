// One denoising step around a denoiser: input scaling, guidance and the scheduler's update.
#pragma once

#include "models/unet.h"

namespace halftone::models {

// n = shape.batch. Inputs, all kStep: "state" f32[kMaxState, n, h, w, c], "noise" f32[n, h, w, c],
// "coefficients" f32[kNumStepCoefficients]; and those of unet_inputs(). Outputs: "state" (the next
// one) and "model_output" f32[n, h, w, c], guided. With shape.cfg the model's batch is [uncond;
// cond], and so are its conditioning inputs.
[[nodiscard]] graph::Graph build_denoise_step(const UNetConfig& config, const BuildShape& shape,
                                              const BuildOptions& options);

}  // namespace halftone::models
