// DDIM (DDIMScheduler): predicts x0 and re-noises it with the predicted epsilon, plus fresh noise
// for eta > 0.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "halftone/error.h"

#include "diffusion/rows.h"

namespace halftone::diffusion {
namespace {

// The noise in x when x0 is predicted: with alpha near 1 the form of each prediction type matters.
LinearForm predict_epsilon(PredictionType type, double alpha, const LinearForm& x,
                           const LinearForm& output) {
  switch (type) {
    case PredictionType::kEpsilon:
      return output;
    case PredictionType::kVPrediction:
      return std::sqrt(alpha) * output + std::sqrt(1 - alpha) * x;
    case PredictionType::kSample:
      return 1 / std::sqrt(1 - alpha) * (x - std::sqrt(alpha) * output);
  }
  return output;
}

Schedule schedule(const SchedulerConfig& config, const ScheduleOptions& options) {
  refuse_custom(options, "ddim", false, false);
  if (!(options.eta >= 0.0 && options.eta <= 1.0)) {
    throw Error(Errc::kInvalidArgument,
                fmt::format("eta: got {}, wanted a number from 0 to 1", options.eta));
  }
  const NoiseTable table = make_noise_table(config, false);
  const int64_t num_steps = checked_num_steps(options, config.num_train_timesteps);
  Schedule result;
  result.timesteps = spaced_timesteps(config, num_steps, Linspace::kRounded);
  result.first_step = first_step(options, num_steps);
  const LinearForm x = LinearForm::state(0);
  const double final_alpha = config.set_alpha_to_one ? 1.0 : table.alpha(0);
  for (auto i = static_cast<size_t>(result.first_step); i < result.timesteps.size(); ++i) {
    const auto t = static_cast<int64_t>(result.timesteps[i]);
    const int64_t next_t = t - config.num_train_timesteps / num_steps;
    const double alpha = table.alpha(t);
    const double next_alpha = next_t >= 0 ? table.alpha(next_t) : final_alpha;
    const double variance = (1 - next_alpha) / (1 - alpha) * (1 - alpha / next_alpha);
    const double deviation = options.eta * std::sqrt(variance);
    const LinearForm x0 = predict_x0(config.prediction_type, alpha, x, LinearForm::output());
    const LinearForm epsilon =
        predict_epsilon(config.prediction_type, alpha, x, LinearForm::output());
    RowSpec spec = alpha_row(result.timesteps[i], alpha);
    spec.uses_noise = deviation > 0;
    result.rows.push_back(
        make_row(spec, {std::sqrt(next_alpha) * x0 +
                        std::sqrt(std::max(1 - next_alpha - deviation * deviation, 0.0)) * epsilon +
                        deviation * LinearForm::noise()}));
  }
  return result;
}

SchedulerConfig defaults() {
  SchedulerConfig config;
  config.timestep_spacing = TimestepSpacing::kLeading;
  config.clip_sample = true;
  return config;
}

}  // namespace

extern const Scheduler kDdim;
const Scheduler kDdim = {
    .name = "ddim",
    .class_name = "DDIMScheduler",
    .has_clip_sample = true,
    .has_eta = true,
    .defaults = defaults,
    .schedule = schedule,
};

}  // namespace halftone::diffusion
