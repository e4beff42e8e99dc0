// Timestep and sigma tables of the schedulers that work in sigma space.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "halftone/error.h"

#include "diffusion/rows.h"

namespace halftone::diffusion {
namespace {

std::vector<float> to_float(const std::vector<double>& values) {
  return {values.begin(), values.end()};
}

void check_sigmas(const std::vector<double>& sigmas) {
  double previous = 1e6;
  for (double sigma : sigmas) {
    if (!(sigma >= 0 && sigma < previous)) {
      throw Error(Errc::kInvalidArgument,
                  fmt::format("sigmas: got {}, wanted descending numbers from at most {} to 0",
                              sigma, 1e6));
    }
    previous = sigma;
  }
  if (sigmas.size() < 2 || sigmas[sigmas.size() - 2] <= 0) {
    throw Error(
        Errc::kInvalidArgument,
        "sigmas: wanted at least one sigma above 0 and then the final one, e.g. 14.6,2.9,0");
  }
}

// exp of a float32 line in log sigma: one point more than there are steps.
std::vector<double> log_linear_sigmas(const NoiseTable& table, int64_t num_steps) {
  const double first = static_cast<double>(std::log(table.sigmas.back()));
  const double last = static_cast<double>(std::log(table.sigmas.front()));
  std::vector<double> sigmas;
  for (double log_sigma : linspace(first, last, num_steps + 1)) {
    sigmas.push_back(static_cast<double>(std::exp(static_cast<float>(log_sigma))));
  }
  return sigmas;
}

}  // namespace

SigmaTable euler_table(const SchedulerConfig& config, const ScheduleOptions& options) {
  const NoiseTable noise = make_noise_table(config, true);
  SigmaTable table;
  if (!options.sigmas.empty()) {
    check_sigmas(options.sigmas);
    table.sigmas = to_float(options.sigmas);
    for (size_t i = 0; i + 1 < table.sigmas.size(); ++i) {
      table.timesteps.push_back(noise.timestep(static_cast<double>(table.sigmas[i])));
    }
  } else {
    table.timesteps =
        options.timesteps.empty()
            ? spaced_timesteps(config, checked_num_steps(options, config.num_train_timesteps),
                               Linspace::kFractional)
            : checked_timesteps(options, config.num_train_timesteps);
    const auto num_steps = static_cast<int64_t>(table.timesteps.size());
    std::vector<double> sigmas;
    if (config.log_linear_sigmas) {
      sigmas = log_linear_sigmas(noise, num_steps);
    } else {
      for (double t : table.timesteps) sigmas.push_back(noise.sigma(t));
    }
    if (config.sigma_schedule != SigmaSchedule::kNone) {
      if (!options.timesteps.empty()) {
        throw Error(Errc::kInvalidArgument,
                    "timesteps: a list cannot be combined with a sigma schedule (karras, ...)");
      }
      sigmas = respace_sigmas(config, sigmas.front(), sigmas.back(), num_steps);
      std::transform(sigmas.begin(), sigmas.end(), table.timesteps.begin(),
                     [&noise](double sigma) { return noise.timestep(sigma); });
    }
    sigmas.push_back(
        config.final_sigma == FinalSigma::kZero ? 0.0 : static_cast<double>(noise.sigmas.front()));
    table.sigmas = to_float(sigmas);
  }
  const float largest = *std::max_element(table.sigmas.begin(), table.sigmas.end());
  table.init_noise_sigma = config.timestep_spacing == TimestepSpacing::kLeading
                               ? std::sqrt(largest * largest + 1.0F)
                               : largest;
  return table;
}

SigmaTable solver_table(const SchedulerConfig& config, const ScheduleOptions& options,
                        SolverFlavour flavour) {
  const NoiseTable noise = make_noise_table(config, true);
  SigmaTable table;
  const bool has_custom_timesteps = !options.timesteps.empty();
  table.timesteps =
      has_custom_timesteps
          ? checked_timesteps(options, config.num_train_timesteps)
          : spaced_timesteps(config, checked_num_steps(options, config.num_train_timesteps - 1),
                             Linspace::kOneMoreStep);
  std::vector<double> sigmas;
  const auto smallest = static_cast<double>(noise.sigmas.front());
  double last = smallest;
  if (config.sigma_schedule == SigmaSchedule::kNone) {
    for (double t : table.timesteps) sigmas.push_back(noise.sigma(t));
  } else {
    if (has_custom_timesteps) {
      throw Error(Errc::kInvalidArgument,
                  "timesteps: a list cannot be combined with a sigma schedule (karras, ...)");
    }
    sigmas = respace_sigmas(config, static_cast<double>(noise.sigmas.back()), smallest,
                            options.num_steps);
    // diffusers keeps these timesteps as integers: rounded for Karras and Lu, else cut off.
    const bool is_rounded = (config.sigma_schedule == SigmaSchedule::kKarras ||
                             config.sigma_schedule == SigmaSchedule::kLu) &&
                            (flavour == SolverFlavour::kUniPC ||
                             config.beta_schedule != BetaSchedule::kSquaredCosCapV2);
    table.timesteps.clear();
    for (double sigma : sigmas) {
      const double t = noise.timestep(sigma);
      table.timesteps.push_back(is_rounded ? round_half_even(t) : std::floor(t));
    }
    if (flavour == SolverFlavour::kUniPC) last = sigmas.back();
  }
  sigmas.push_back(config.final_sigma == FinalSigma::kZero ? 0.0 : last);
  table.sigmas = to_float(sigmas);
  return table;
}

SolverPoint::SolverPoint(double table_sigma)
    : alpha(1 / std::sqrt(table_sigma * table_sigma + 1)),
      sigma(table_sigma * alpha),
      lambda(-std::log(table_sigma)) {}

}  // namespace halftone::diffusion
