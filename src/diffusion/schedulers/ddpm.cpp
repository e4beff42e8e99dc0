// Ancestral sampling of DDPM (DDPMScheduler): posterior mean, then noise of the fixed variance.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "halftone/error.h"

#include "diffusion/rows.h"

namespace halftone::diffusion {
namespace {

// Standard deviation of the noise. `beta` is that of the whole step.
double deviation(const std::string& variance_type, double alpha, double next_alpha, double beta) {
  const double variance = std::max((1 - next_alpha) / (1 - alpha) * beta, 1e-20);
  if (variance_type == "fixed_small" || variance_type == "fixed_small_log") {
    return std::sqrt(variance);
  }
  if (variance_type == "fixed_large") return std::sqrt(beta);
  throw Error(
      Errc::kUnsupported,
      fmt::format("scheduler ddpm: variance_type '{}' is not implemented; wanted fixed_small, "
                  "fixed_small_log or fixed_large",
                  variance_type));
}

Schedule schedule(const SchedulerConfig& config, const ScheduleOptions& options) {
  refuse_custom(options, "ddpm", true, false);
  const NoiseTable table = make_noise_table(config, false);
  Schedule result;
  result.timesteps =
      options.timesteps.empty()
          ? spaced_timesteps(config, checked_num_steps(options, config.num_train_timesteps),
                             Linspace::kRounded)
          : checked_timesteps(options, config.num_train_timesteps);
  const size_t num_steps = result.timesteps.size();
  result.first_step = first_step(options, static_cast<int64_t>(num_steps));
  const LinearForm x = LinearForm::state(0);
  for (auto i = static_cast<size_t>(result.first_step); i < num_steps; ++i) {
    const auto t = static_cast<int64_t>(result.timesteps[i]);
    const double alpha = table.alpha(t);
    const double next_alpha =
        i + 1 < num_steps ? table.alpha(static_cast<int64_t>(result.timesteps[i + 1])) : 1.0;
    const double step_alpha = alpha / next_alpha;
    const double beta = 1 - step_alpha;
    const LinearForm x0 = predict_x0(config.prediction_type, alpha, x, LinearForm::output());
    LinearForm next = std::sqrt(next_alpha) * beta / (1 - alpha) * x0 +
                      std::sqrt(step_alpha) * (1 - next_alpha) / (1 - alpha) * x;
    RowSpec spec = alpha_row(result.timesteps[i], alpha);
    spec.uses_noise = t > 0;
    if (spec.uses_noise) {
      next += deviation(config.variance_type, alpha, next_alpha, beta) * LinearForm::noise();
    }
    result.rows.push_back(make_row(spec, {next}));
  }
  return result;
}

SchedulerConfig defaults() {
  SchedulerConfig config;
  config.timestep_spacing = TimestepSpacing::kLeading;
  config.clip_sample = true;
  config.variance_type = "fixed_small";
  return config;
}

}  // namespace

extern const Scheduler kDdpm;
const Scheduler kDdpm = {
    .name = "ddpm",
    .class_name = "DDPMScheduler",
    .has_clip_sample = true,
    .defaults = defaults,
    .schedule = schedule,
};

}  // namespace halftone::diffusion
