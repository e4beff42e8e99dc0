// Latent consistency sampling (LCMScheduler): jumps to x0, then re-noises to the next timestep.
#include <cmath>

#include <fmt/format.h>

#include "halftone/error.h"

#include "diffusion/rows.h"

namespace halftone::diffusion {
namespace {

// n of the original_inference_steps distillation timesteps, evenly spread over their indices.
std::vector<double> lcm_timesteps(const SchedulerConfig& config, int64_t n) {
  const int64_t origin = config.original_inference_steps;
  if (n > origin) {
    throw Error(Errc::kInvalidArgument,
                fmt::format("steps: got {}, but the model was distilled to {} steps "
                            "(original_inference_steps); ask for at most that many",
                            n, origin));
  }
  const int64_t skip = config.num_train_timesteps / origin;
  const double stride = static_cast<double>(origin) / static_cast<double>(n);
  std::vector<double> timesteps;
  for (int64_t i = 0; i < n; ++i) {
    const auto index = static_cast<int64_t>(std::floor(static_cast<double>(i) * stride));
    timesteps.push_back(static_cast<double>((origin - index) * skip - 1));
  }
  return timesteps;
}

Schedule schedule(const SchedulerConfig& config, const ScheduleOptions& options) {
  refuse_custom(options, "lcm", true, false);
  constexpr double kSigmaData = 0.5;
  const NoiseTable table = make_noise_table(config, false);
  Schedule result;
  result.timesteps =
      options.timesteps.empty()
          ? lcm_timesteps(config, checked_num_steps(options, config.num_train_timesteps))
          : checked_timesteps(options, config.num_train_timesteps);
  const size_t num_steps = result.timesteps.size();
  result.first_step = first_step(options, static_cast<int64_t>(num_steps));
  const LinearForm x = LinearForm::state(0);
  for (auto i = static_cast<size_t>(result.first_step); i < num_steps; ++i) {
    const double alpha = table.alpha(static_cast<int64_t>(result.timesteps[i]));
    const double scaled = result.timesteps[i] * config.timestep_scaling;
    const double norm = scaled * scaled + kSigmaData * kSigmaData;
    const LinearForm x0 = predict_x0(config.prediction_type, alpha, x, LinearForm::output());
    LinearForm next = scaled / std::sqrt(norm) * x0 + kSigmaData * kSigmaData / norm * x;
    RowSpec spec = alpha_row(result.timesteps[i], alpha);
    spec.uses_noise = i + 1 < num_steps;
    if (spec.uses_noise) {
      const double next_alpha = table.alpha(static_cast<int64_t>(result.timesteps[i + 1]));
      next = std::sqrt(next_alpha) * next + std::sqrt(1 - next_alpha) * LinearForm::noise();
    }
    result.rows.push_back(make_row(spec, {next}));
  }
  return result;
}

SchedulerConfig defaults() {
  SchedulerConfig config;
  config.beta_start = 0.00085;
  config.beta_end = 0.012;
  config.beta_schedule = BetaSchedule::kScaledLinear;
  config.timestep_spacing = TimestepSpacing::kLeading;
  return config;
}

}  // namespace

extern const Scheduler kLcm;
const Scheduler kLcm = {
    .name = "lcm",
    .class_name = "LCMScheduler",
    .has_clip_sample = true,
    .defaults = defaults,
    .schedule = schedule,
};

}  // namespace halftone::diffusion
