#include "models/denoise_step.h"

#include "tensor/step_coefficients.h"

namespace halftone::models {

using graph::Role;

graph::Graph build_denoise_step(const UNetConfig& config, const BuildShape& shape,
                                const BuildOptions& options) {
  Builder b("unet", options.compute_dtype);
  const Shape latent{shape.batch, shape.height, shape.width, config.in_channels};
  const ValueId state = b.input(
      "state", {DType::kF32, {kMaxState, latent[0], latent[1], latent[2], latent[3]}}, Rate::kStep);
  const ValueId noise = b.input("noise", {DType::kF32, latent}, Rate::kStep);
  const ValueId coefficients =
      b.input("coefficients", {DType::kF32, {kNumStepCoefficients}}, Rate::kStep);

  const ValueId sample = b.op(graph::ScaleInput{.copies = shape.cfg ? 2 : 1},
                              {{Role::kState, state}, {Role::kCoefficients, coefficients}});
  ValueId output = b.cast(unet(b, config, unet_inputs(b, config, shape, sample)), DType::kF32);
  if (shape.cfg) {
    output = b.op(graph::Guidance{}, {{Role::kX, output}, {Role::kCoefficients, coefficients}});
  }
  const ValueId next = b.op(graph::LinearUpdate{}, {{Role::kState, state},
                                                    {Role::kX, output},
                                                    {Role::kNoise, noise},
                                                    {Role::kCoefficients, coefficients}});
  b.output("state", next);
  b.output("model_output", output);
  return b.take();
}

}  // namespace halftone::models
