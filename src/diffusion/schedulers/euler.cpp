// Euler's method on dx/dsigma (EulerDiscreteScheduler without churn).
#include <cmath>

#include "diffusion/rows.h"

namespace halftone::diffusion {
namespace {

Schedule schedule(const SchedulerConfig& config, const ScheduleOptions& options) {
  refuse_custom(options, "euler", true, true);
  const SigmaTable table = euler_table(config, options);
  const auto num_steps = static_cast<int64_t>(table.timesteps.size());
  Schedule result = begin_schedule(table, options);
  const LinearForm x = LinearForm::state(0);
  for (auto i = static_cast<size_t>(result.first_step); i < static_cast<size_t>(num_steps); ++i) {
    const auto sigma = static_cast<double>(table.sigmas[i]);
    const auto next = static_cast<double>(table.sigmas[i + 1]);
    const LinearForm d = derivative(config.prediction_type, sigma, x, LinearForm::output());
    result.rows.push_back(make_row(sigma_row(table, i), {x + (next - sigma) * d}));
  }
  return result;
}

constexpr std::string_view kAliases[] = {"k-euler"};

}  // namespace

extern const Scheduler kEuler;
const Scheduler kEuler = {
    .name = "euler",
    .class_name = "EulerDiscreteScheduler",
    .aliases = kAliases,
    .has_sigma_schedules = true,
    .defaults = [] { return SchedulerConfig{}; },
    .schedule = schedule,
};

}  // namespace halftone::diffusion
