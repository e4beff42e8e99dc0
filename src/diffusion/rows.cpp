#include "diffusion/rows.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "halftone/error.h"

namespace halftone::diffusion {

ScheduleRow make_row(const RowSpec& spec, std::initializer_list<LinearForm> next) {
  ScheduleRow row;
  row.timestep = static_cast<float>(spec.timestep);
  row.coefficients.input_scale = static_cast<float>(spec.input_scale);
  row.uses_noise = spec.uses_noise;
  row.signal_scale = spec.signal_scale;
  row.noise_scale = spec.noise_scale;
  check_internal(next.size() <= kMaxState, "a scheduler keeps more state than a step has");
  auto* update = row.coefficients.update;
  for (const LinearForm& form : next) {
    std::transform(form.weights.begin(), form.weights.end(), *update++,
                   [](double w) { return static_cast<float>(w); });
  }
  return row;
}

int64_t first_step(const ScheduleOptions& options, int64_t num_steps) {
  if (!(options.strength > 0.0 && options.strength <= 1.0)) {
    throw Error(
        Errc::kInvalidArgument,
        fmt::format("strength: got {}, wanted a number above 0, at most 1", options.strength));
  }
  const auto kept = static_cast<int64_t>(static_cast<double>(num_steps) * options.strength);
  if (kept < 1) {
    throw Error(Errc::kInvalidArgument,
                fmt::format("strength {} of {} steps leaves none to run; raise strength or steps",
                            options.strength, num_steps));
  }
  return num_steps - std::min(kept, num_steps);
}

void refuse_custom(const ScheduleOptions& options, std::string_view scheduler, bool takes_timesteps,
                   bool takes_sigmas) {
  if (!options.timesteps.empty() && !options.sigmas.empty()) {
    throw Error(Errc::kInvalidArgument, "timesteps and sigmas: give at most one of the two lists");
  }
  const auto refuse = [scheduler](std::string_view what) {
    throw Error(
        Errc::kUnsupported,
        fmt::format("scheduler {} takes no list of {}; give the number of steps", scheduler, what));
  };
  if (!options.timesteps.empty() && !takes_timesteps) refuse("timesteps");
  if (!options.sigmas.empty() && !takes_sigmas) refuse("sigmas");
}

int64_t checked_num_steps(const ScheduleOptions& options, int64_t limit) {
  if (options.num_steps < 1 || options.num_steps > limit) {
    throw Error(Errc::kInvalidArgument,
                fmt::format("steps: got {}, wanted 1 to {}", options.num_steps, limit));
  }
  return options.num_steps;
}

std::vector<double> checked_timesteps(const ScheduleOptions& options, int64_t num_train_timesteps) {
  double previous = static_cast<double>(num_train_timesteps);
  for (double t : options.timesteps) {
    if (!(t >= 0 && t < previous) || t != std::floor(t)) {
      throw Error(
          Errc::kInvalidArgument,
          fmt::format("timesteps: got {}, wanted descending whole numbers from {} down to 0", t,
                      num_train_timesteps - 1));
    }
    previous = t;
  }
  return options.timesteps;
}

LinearForm predict_x0(PredictionType type, double alpha, const LinearForm& x,
                      const LinearForm& output) {
  const double signal = std::sqrt(alpha);
  const double noise = std::sqrt(1 - alpha);
  switch (type) {
    case PredictionType::kEpsilon:
      return 1 / signal * (x - noise * output);
    case PredictionType::kVPrediction:
      return signal * x - noise * output;
    case PredictionType::kSample:
      return output;
  }
  return output;
}

LinearForm derivative(PredictionType type, double sigma, const LinearForm& x,
                      const LinearForm& output) {
  switch (type) {
    case PredictionType::kEpsilon:
      return output;
    case PredictionType::kVPrediction: {
      const double variance = sigma * sigma + 1;
      return sigma / variance * x + 1 / std::sqrt(variance) * output;
    }
    case PredictionType::kSample:
      return 1 / sigma * (x - output);
  }
  return output;
}

Schedule begin_schedule(const SigmaTable& table, const ScheduleOptions& options) {
  Schedule schedule;
  schedule.timesteps = table.timesteps;
  schedule.sigmas.assign(table.sigmas.begin(), table.sigmas.end());
  schedule.init_noise_sigma = table.init_noise_sigma;
  schedule.first_step = first_step(options, static_cast<int64_t>(table.timesteps.size()));
  return schedule;
}

RowSpec sigma_row(const SigmaTable& table, size_t i) {
  const auto sigma = static_cast<double>(table.sigmas[i]);
  return {.timestep = table.timesteps[i],
          .input_scale = 1 / std::sqrt(sigma * sigma + 1),
          .signal_scale = 1,
          .noise_scale = sigma};
}

RowSpec solver_row(const SigmaTable& table, size_t i) {
  const SolverPoint point(static_cast<double>(table.sigmas[i]));
  return {.timestep = table.timesteps[i], .signal_scale = point.alpha, .noise_scale = point.sigma};
}

RowSpec alpha_row(double timestep, double alpha) {
  return {
      .timestep = timestep, .signal_scale = std::sqrt(alpha), .noise_scale = std::sqrt(1 - alpha)};
}

}  // namespace halftone::diffusion
