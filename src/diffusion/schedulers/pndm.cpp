// Pseudo linear multistep (PNDMScheduler with skip_prk_steps): N + 1 evaluations, the second of
// which repeats the first step with a better derivative. State: the sample, the last three model
// outputs (newest first), the sample of the first step.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "halftone/error.h"

#include "diffusion/rows.h"

namespace halftone::diffusion {
namespace {

constexpr int kFirstSample = 4;

// The multistep combination of the current output and `num_outputs` - 1 earlier ones.
LinearForm combine(size_t num_outputs) {
  const LinearForm e = LinearForm::output();
  const LinearForm e1 = LinearForm::state(1);
  const LinearForm e2 = LinearForm::state(2);
  const LinearForm e3 = LinearForm::state(3);
  switch (num_outputs) {
    case 1:
      return e;
    case 2:
      return 3.0 / 2 * e - 1.0 / 2 * e1;
    case 3:
      return 23.0 / 12 * e - 16.0 / 12 * e1 + 5.0 / 12 * e2;
    default:
      return 55.0 / 24 * e - 59.0 / 24 * e1 + 37.0 / 24 * e2 - 9.0 / 24 * e3;
  }
}

// Formula (9) of arXiv 2202.09778: from `alpha` to `next_alpha` along the output.
LinearForm transfer(PredictionType type, double alpha, double next_alpha, const LinearForm& x,
                    const LinearForm& output) {
  const LinearForm epsilon = type == PredictionType::kVPrediction
                                 ? std::sqrt(alpha) * output + std::sqrt(1 - alpha) * x
                                 : output;
  const double denominator =
      alpha * std::sqrt(1 - next_alpha) + std::sqrt(alpha * (1 - alpha) * next_alpha);
  return std::sqrt(next_alpha / alpha) * x - (next_alpha - alpha) / denominator * epsilon;
}

std::vector<double> plms_timesteps(const SchedulerConfig& config, int64_t num_steps) {
  std::vector<double> timesteps = spaced_timesteps(config, num_steps, Linspace::kRounded);
  if (timesteps.size() > 1) timesteps.insert(timesteps.begin() + 1, timesteps[1]);
  return timesteps;
}

Schedule schedule(const SchedulerConfig& config, const ScheduleOptions& options) {
  refuse_custom(options, "pndm", false, false);
  if (!config.skip_prk_steps) {
    throw Error(Errc::kUnsupported,
                "scheduler pndm: Runge-Kutta warm-up steps (skip_prk_steps false) are not "
                "implemented; set skip_prk_steps to true as Stable Diffusion does");
  }
  if (config.prediction_type == PredictionType::kSample) {
    throw Error(Errc::kUnsupported, "scheduler pndm has no prediction type 'sample'; use ddim");
  }
  const NoiseTable table = make_noise_table(config, false);
  const int64_t num_steps = checked_num_steps(options, config.num_train_timesteps);
  const int64_t stride = config.num_train_timesteps / num_steps;
  const double final_alpha = config.set_alpha_to_one ? 1.0 : table.alpha(0);
  Schedule result;
  result.timesteps = plms_timesteps(config, num_steps);
  result.first_step = first_step(options, num_steps);
  const LinearForm x = LinearForm::state(0);
  const auto first = static_cast<size_t>(result.first_step);
  for (size_t i = first; i < result.timesteps.size(); ++i) {
    const size_t call = i - first;
    const bool is_repeat = call == 1;
    const auto timestep = static_cast<int64_t>(result.timesteps[i]);
    // The repeat goes from one stride earlier to this timestep, from the first sample.
    const int64_t t = is_repeat ? timestep + stride : timestep;
    const int64_t next_t = t - stride;
    const double next_alpha = next_t >= 0 ? table.alpha(next_t) : final_alpha;
    const LinearForm output = is_repeat ? 0.5 * LinearForm::output() + 0.5 * LinearForm::state(1)
                                        : combine(call == 0 ? 1 : std::min<size_t>(call, 4));
    const LinearForm from = is_repeat ? LinearForm::state(kFirstSample) : x;
    const LinearForm next =
        transfer(config.prediction_type, table.alpha(t), next_alpha, from, output);
    const RowSpec spec = alpha_row(result.timesteps[i], table.alpha(timestep));
    if (is_repeat) {
      result.rows.push_back(make_row(spec, {next, LinearForm::state(1)}));
    } else {
      result.rows.push_back(make_row(
          spec, {next, LinearForm::output(), LinearForm::state(1), LinearForm::state(2), x}));
    }
  }
  return result;
}

SchedulerConfig defaults() {
  SchedulerConfig config;
  config.timestep_spacing = TimestepSpacing::kLeading;
  config.set_alpha_to_one = false;
  return config;
}

constexpr std::string_view kAliases[] = {"plms"};

}  // namespace

extern const Scheduler kPndm;
const Scheduler kPndm = {
    .name = "pndm",
    .class_name = "PNDMScheduler",
    .aliases = kAliases,
    .defaults = defaults,
    .schedule = schedule,
};

}  // namespace halftone::diffusion
