// Euler's method on a rectified flow (FlowMatchEulerDiscreteScheduler): x = (1 - sigma) x0 + sigma
// n, the model predicts dx/dsigma.
#include <cmath>

#include <fmt/format.h>

#include "halftone/error.h"

#include "diffusion/rows.h"

namespace halftone::diffusion {
namespace {

double shifted(double sigma, double shift) { return shift * sigma / (1 + (shift - 1) * sigma); }

// Sigmas of n steps. The bounds are already shifted training sigmas and diffusers shifts the line
// between them once more.
std::vector<double> flow_sigmas(const SchedulerConfig& config, const ScheduleOptions& options) {
  const auto train = static_cast<double>(config.num_train_timesteps);
  std::vector<double> sigmas = options.sigmas;
  if (sigmas.empty()) {
    const auto float_shift = [&config](float sigma) {
      const auto shift = static_cast<float>(config.shift);
      return static_cast<double>(shift * sigma / (1.0F + (shift - 1.0F) * sigma));
    };
    const double first = float_shift(1.0F) * train;
    const double last = float_shift(1.0F / static_cast<float>(train)) * train;
    const int64_t num_steps = checked_num_steps(options, config.num_train_timesteps);
    for (double t : linspace(first, last, num_steps)) sigmas.push_back(t / train);
  }
  double previous = 1.0 + 1e-9;
  for (double& sigma : sigmas) {
    if (!(sigma > 0 && sigma < previous)) {
      throw Error(
          Errc::kInvalidArgument,
          fmt::format("sigmas: got {}, wanted descending numbers from 1 to above 0", sigma));
    }
    previous = sigma;
    sigma = shifted(sigma, config.shift);
  }
  if (config.sigma_schedule == SigmaSchedule::kNone) return sigmas;
  return respace_sigmas(config, sigmas.front(), sigmas.back(), static_cast<int64_t>(sigmas.size()));
}

Schedule schedule(const SchedulerConfig& config, const ScheduleOptions& options) {
  refuse_custom(options, "flow-euler", false, true);
  SigmaTable table;
  for (double sigma : flow_sigmas(config, options)) {
    table.sigmas.push_back(static_cast<float>(sigma));
    table.timesteps.push_back(
        static_cast<double>(table.sigmas.back() * static_cast<float>(config.num_train_timesteps)));
  }
  table.sigmas.push_back(0.0F);
  Schedule result = begin_schedule(table, options);
  for (auto i = static_cast<size_t>(result.first_step); i < table.timesteps.size(); ++i) {
    const auto sigma = static_cast<double>(table.sigmas[i]);
    const auto next = static_cast<double>(table.sigmas[i + 1]);
    const RowSpec spec = {
        .timestep = table.timesteps[i], .signal_scale = 1 - sigma, .noise_scale = sigma};
    result.rows.push_back(
        make_row(spec, {LinearForm::state(0) + (next - sigma) * LinearForm::output()}));
  }
  return result;
}

constexpr std::string_view kAliases[] = {"flowmatcheuler", "flow-match-euler", "euler-flow"};

}  // namespace

extern const Scheduler kFlowEuler;
const Scheduler kFlowEuler = {
    .name = "flow-euler",
    .class_name = "FlowMatchEulerDiscreteScheduler",
    .aliases = kAliases,
    .has_sigma_schedules = true,
    .is_flow = true,
    .defaults = [] { return SchedulerConfig{}; },
    .schedule = schedule,
};

}  // namespace halftone::diffusion
