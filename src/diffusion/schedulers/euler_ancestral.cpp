// Euler with fresh noise after each step (EulerAncestralDiscreteScheduler): steps down to
// sigma_down, then adds sigma_up so that the level is that of the next step.
#include <cmath>

#include <fmt/format.h>

#include "halftone/error.h"

#include "diffusion/rows.h"

namespace halftone::diffusion {
namespace {

Schedule schedule(const SchedulerConfig& config, const ScheduleOptions& options) {
  refuse_custom(options, "euler-a", false, false);
  if (config.prediction_type == PredictionType::kSample) {
    throw Error(Errc::kUnsupported, "scheduler euler-a has no prediction type 'sample'; use euler");
  }
  const SigmaTable table = euler_table(config, options);
  Schedule result = begin_schedule(table, options);
  const LinearForm x = LinearForm::state(0);
  for (auto i = static_cast<size_t>(result.first_step); i < table.timesteps.size(); ++i) {
    const auto sigma = static_cast<double>(table.sigmas[i]);
    const auto next = static_cast<double>(table.sigmas[i + 1]);
    const double up = std::sqrt(next * next * (sigma * sigma - next * next) / (sigma * sigma));
    const double down = std::sqrt(next * next - up * up);
    const LinearForm d = derivative(config.prediction_type, sigma, x, LinearForm::output());
    RowSpec spec = sigma_row(table, i);
    spec.uses_noise = next > 0;
    result.rows.push_back(make_row(spec, {x + (down - sigma) * d + up * LinearForm::noise()}));
  }
  return result;
}

constexpr std::string_view kAliases[] = {"eulera", "euler-ancestral", "k-euler-a",
                                         "k-euler-ancestral"};

}  // namespace

extern const Scheduler kEulerAncestral;
const Scheduler kEulerAncestral = {
    .name = "euler-a",
    .class_name = "EulerAncestralDiscreteScheduler",
    .aliases = kAliases,
    .can_respace_sigmas = true,
    .defaults = [] { return SchedulerConfig{}; },
    .schedule = schedule,
};

}  // namespace halftone::diffusion
