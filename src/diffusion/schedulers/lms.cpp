// Linear multistep method of order 4 on dx/dsigma (LMSDiscreteScheduler).
// State: the sample and the last three derivatives, newest first.
#include <algorithm>
#include <cmath>

#include "diffusion/rows.h"

namespace halftone::diffusion {
namespace {

constexpr int kOrder = 4;

// Integral from sigma_i to sigma_{i+1} of the Lagrange polynomial of node j among the last `order`
// sigmas. The integrand is at most cubic: two Gauss points are exact.
double coefficient(const std::vector<float>& sigmas, size_t i, int order, int j) {
  const auto sigma = [&sigmas, i](int back) {
    return static_cast<double>(sigmas[i - static_cast<size_t>(back)]);
  };
  const auto lagrange = [&sigma, order, j](double tau) {
    double product = 1.0;
    for (int k = 0; k < order; ++k) {
      if (k != j) product *= (tau - sigma(k)) / (sigma(j) - sigma(k));
    }
    return product;
  };
  const double half = 0.5 * (sigma(-1) - sigma(0));
  const double middle = 0.5 * (sigma(-1) + sigma(0));
  const double offset = half / std::sqrt(3.0);
  return half * (lagrange(middle - offset) + lagrange(middle + offset));
}

Schedule schedule(const SchedulerConfig& config, const ScheduleOptions& options) {
  refuse_custom(options, "lms", false, false);
  const SigmaTable table = euler_table(config, options);
  Schedule result = begin_schedule(table, options);
  const LinearForm x = LinearForm::state(0);
  const auto first = static_cast<size_t>(result.first_step);
  for (size_t i = first; i < table.timesteps.size(); ++i) {
    const auto sigma = static_cast<double>(table.sigmas[i]);
    const LinearForm d = derivative(config.prediction_type, sigma, x, LinearForm::output());
    // When the schedule is entered late the coefficients are still those of the full order: that is
    // how diffusers does it.
    const int order = static_cast<int>(std::min<size_t>(i + 1, kOrder));
    const int num_derivatives = static_cast<int>(std::min<size_t>(i - first + 1, kOrder));
    LinearForm next = x + coefficient(table.sigmas, i, order, 0) * d;
    for (int j = 1; j < num_derivatives; ++j) {
      next += coefficient(table.sigmas, i, order, j) * LinearForm::state(j);
    }
    result.rows.push_back(
        make_row(sigma_row(table, i), {next, d, LinearForm::state(1), LinearForm::state(2)}));
  }
  return result;
}

constexpr std::string_view kAliases[] = {"lmsd", "k-lms", "lms-discrete"};

}  // namespace

extern const Scheduler kLms;
const Scheduler kLms = {
    .name = "lms",
    .class_name = "LMSDiscreteScheduler",
    .aliases = kAliases,
    .has_sigma_schedules = true,
    .defaults = [] { return SchedulerConfig{}; },
    .schedule = schedule,
};

}  // namespace halftone::diffusion
