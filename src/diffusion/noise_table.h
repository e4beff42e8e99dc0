// Tables shared by the schedulers: noise levels of the training steps, timestep spacings, sigma
// schedules. Where diffusers computes in float32 the tables do too, so that they hold its numbers.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "diffusion/scheduler_config.h"

namespace halftone::diffusion {

struct NoiseTable {
  std::vector<float> alphas_cumprod;  // product of (1 - beta) up to each training step
  std::vector<float> sigmas;          // sqrt((1 - alpha) / alpha), ascending

  // alphas_cumprod of a timestep; throws kInvalidArgument when it is no training step.
  [[nodiscard]] double alpha(int64_t timestep) const;
  // Linear interpolation between training steps, clamped at both ends.
  [[nodiscard]] double sigma(double timestep) const;
  // Inverse of sigma(): interpolates in log sigma, clamped.
  [[nodiscard]] double timestep(double sigma) const;
};

// `zero_snr_floor`: under rescale_betas_zero_snr the last alpha is 2^-24 instead of 0 (schedulers
// that divide by it).
[[nodiscard]] NoiseTable make_noise_table(const SchedulerConfig& config, bool zero_snr_floor);

enum class Linspace : uint8_t {
  kFractional,   // Euler, LMS: linspace timesteps stay fractional
  kRounded,      // DDIM, DDPM, PNDM
  kOneMoreStep,  // UniPC, DPM++: n + 1 rounded timesteps, also for leading, without the last
};

// n timesteps in descending order by the configured spacing.
[[nodiscard]] std::vector<double> spaced_timesteps(const SchedulerConfig& config, int64_t n,
                                                   Linspace linspace);

// n values from first to last, both included; n = 1 gives first.
[[nodiscard]] std::vector<double> linspace(double first, double last, int64_t n);

// n descending sigmas from `sigma_max` to `sigma_min` (config bounds win) by config.sigma_schedule,
// which is not kNone.
[[nodiscard]] std::vector<double> respace_sigmas(const SchedulerConfig& config, double sigma_max,
                                                 double sigma_min, int64_t n);

// Inverse of the regularised incomplete beta function I_x(a, b) = p.
[[nodiscard]] double beta_quantile(double p, double a, double b);

// numpy's round: half to even.
[[nodiscard]] double round_half_even(double value);

}  // namespace halftone::diffusion
