#include "diffusion/noise_table.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include <fmt/format.h>

#include "halftone/error.h"

namespace halftone::diffusion {
namespace {

// torch.linspace in float32: from both ends towards the middle, each value rounded once.
std::vector<float> linear_betas(double first, double last, int64_t n) {
  const auto start = static_cast<float>(first);
  const auto end = static_cast<float>(last);
  const float step = (end - start) / static_cast<float>(n - 1);
  std::vector<float> betas;
  for (int64_t i = 0; i < n; ++i) {
    betas.push_back(i < n / 2 ? std::fma(step, static_cast<float>(i), start)
                              : std::fma(-step, static_cast<float>(n - 1 - i), end));
  }
  return betas;
}

std::vector<float> make_betas(const SchedulerConfig& config) {
  const int64_t n = config.num_train_timesteps;
  if (!config.trained_betas.empty()) {
    return {config.trained_betas.begin(), config.trained_betas.end()};
  }
  switch (config.beta_schedule) {
    case BetaSchedule::kLinear:
      return linear_betas(config.beta_start, config.beta_end, n);
    case BetaSchedule::kScaledLinear: {
      std::vector<float> betas =
          linear_betas(std::sqrt(config.beta_start), std::sqrt(config.beta_end), n);
      for (float& beta : betas) beta *= beta;
      return betas;
    }
    case BetaSchedule::kSquaredCosCapV2: {
      const auto alpha_bar = [n](int64_t i) {
        const double t = static_cast<double>(i) / static_cast<double>(n);
        const double c = std::cos((t + 0.008) / 1.008 * std::numbers::pi / 2);
        return c * c;
      };
      std::vector<float> betas;
      for (int64_t i = 0; i < n; ++i) {
        betas.push_back(static_cast<float>(std::min(1 - alpha_bar(i + 1) / alpha_bar(i), 0.999)));
      }
      return betas;
    }
  }
  return {};
}

// torch accumulates the product in double and stores each value as float.
std::vector<float> cumulative_alphas(const std::vector<float>& betas) {
  std::vector<float> alphas;
  double product = 1.0;
  for (float beta : betas) {
    product *= static_cast<double>(1.0F - beta);
    alphas.push_back(static_cast<float>(product));
  }
  return alphas;
}

// Algorithm 1 of arXiv 2305.08891: shifts and scales sqrt(alpha) so that the last one is 0.
void rescale_to_zero_snr(std::vector<float>& betas) {
  std::vector<float> roots = cumulative_alphas(betas);
  for (float& root : roots) root = std::sqrt(root);
  const float first = roots.front();
  const float last = roots.back();
  const float scale = first / (first - last);
  float previous = 1.0F;
  for (size_t i = 0; i < roots.size(); ++i) {
    const float root = (roots[i] - last) * scale;
    const float alpha = root * root;
    betas[i] = 1.0F - alpha / previous;
    previous = alpha;
  }
}

// Continued fraction of the incomplete beta function (modified Lentz).
double beta_fraction(double x, double a, double b) {
  constexpr double kTiny = 1e-300;
  const auto away_from_zero = [](double v) { return std::fabs(v) < kTiny ? kTiny : v; };
  double c = 1.0;
  double d = 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0));
  double result = d;
  for (int m = 1; m <= 300; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1.0 / away_from_zero(1.0 + even * d);
    c = away_from_zero(1.0 + even / c);
    result *= d * c;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1.0 / away_from_zero(1.0 + odd * d);
    c = away_from_zero(1.0 + odd / c);
    result *= d * c;
    if (std::fabs(d * c - 1.0) < 1e-16) break;
  }
  return result;
}

double incomplete_beta(double x, double a, double b) {
  if (x <= 0.0) return 0.0;
  if (x >= 1.0) return 1.0;
  const double log_front =
      std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) + b * std::log1p(-x);
  if (x < (a + 1.0) / (a + b + 2.0)) return std::exp(log_front) * beta_fraction(x, a, b) / a;
  return 1.0 - std::exp(log_front) * beta_fraction(1.0 - x, b, a) / b;
}

}  // namespace

double NoiseTable::alpha(int64_t timestep) const {
  if (timestep < 0 || timestep >= static_cast<int64_t>(alphas_cumprod.size())) {
    throw Error(Errc::kInvalidArgument,
                fmt::format("scheduler: timestep {} is outside the {} training steps; use another "
                            "timestep spacing, steps_offset or number of steps",
                            timestep, alphas_cumprod.size()));
  }
  return static_cast<double>(alphas_cumprod[static_cast<size_t>(timestep)]);
}

double NoiseTable::sigma(double timestep) const {
  if (timestep <= 0) return static_cast<double>(sigmas.front());
  const double last = static_cast<double>(sigmas.size() - 1);
  if (timestep >= last) return static_cast<double>(sigmas.back());
  const auto i = static_cast<size_t>(timestep);
  const double low = static_cast<double>(sigmas[i]);
  const double high = static_cast<double>(sigmas[i + 1]);
  return low + (high - low) * (timestep - static_cast<double>(i));
}

double NoiseTable::timestep(double sigma) const {
  if (sigmas.size() < 2) return 0;
  const double log_sigma = std::log(std::max(sigma, 1e-10));
  const auto log_at = [this](size_t i) { return static_cast<double>(std::log(sigmas[i])); };
  // The last training step whose sigma is not above; the last but one at most.
  size_t low = 0;
  size_t high = sigmas.size() - 1;
  while (high - low > 1) {
    const size_t middle = (low + high) / 2;
    (log_at(middle) <= log_sigma ? low : high) = middle;
  }
  const double w = (log_at(low) - log_sigma) / (log_at(low) - log_at(low + 1));
  return static_cast<double>(low) + std::clamp(w, 0.0, 1.0);
}

NoiseTable make_noise_table(const SchedulerConfig& config, bool zero_snr_floor) {
  std::vector<float> betas = make_betas(config);
  if (config.rescale_betas_zero_snr) rescale_to_zero_snr(betas);
  NoiseTable table;
  table.alphas_cumprod = cumulative_alphas(betas);
  if (config.rescale_betas_zero_snr && zero_snr_floor) table.alphas_cumprod.back() = 0x1p-24F;
  for (float alpha : table.alphas_cumprod)
    table.sigmas.push_back(std::sqrt((1.0F - alpha) / alpha));
  return table;
}

std::vector<double> spaced_timesteps(const SchedulerConfig& config, int64_t n,
                                     Linspace linspace_kind) {
  const int64_t train = config.num_train_timesteps;
  const bool has_one_more = linspace_kind == Linspace::kOneMoreStep;
  const int64_t points = has_one_more ? n + 1 : n;
  std::vector<double> ascending;
  switch (config.timestep_spacing) {
    case TimestepSpacing::kLinspace:
      ascending = linspace(0, static_cast<double>(train - 1), points);
      for (double& t : ascending) {
        t = linspace_kind == Linspace::kFractional ? static_cast<double>(static_cast<float>(t))
                                                   : round_half_even(t);
      }
      break;
    case TimestepSpacing::kLeading: {
      const int64_t stride = train / points;
      for (int64_t i = 0; i < points; ++i) {
        ascending.push_back(static_cast<double>(i * stride + config.steps_offset));
      }
      break;
    }
    case TimestepSpacing::kTrailing: {
      // numpy's arange(train, 0, -step): the difference of its first two values is the real step,
      // which decides the values halfway between integers.
      const auto start = static_cast<double>(train);
      const double step = start / static_cast<double>(n);
      const auto count = static_cast<int64_t>(std::ceil(-start / -step));
      const double delta = (start - step) - start;
      std::vector<double> timesteps;
      for (int64_t i = 0; i < count; ++i) {
        timesteps.push_back(round_half_even(start + static_cast<double>(i) * delta) - 1);
      }
      return timesteps;
    }
  }
  std::vector<double> descending(ascending.rbegin(), ascending.rend());
  if (has_one_more) descending.pop_back();
  return descending;
}

std::vector<double> linspace(double first, double last, int64_t n) {
  std::vector<double> values;
  const double step = n > 1 ? (last - first) / static_cast<double>(n - 1) : 0.0;
  for (int64_t i = 0; i < n; ++i) values.push_back(static_cast<double>(i) * step + first);
  if (n > 1) values.back() = last;
  return values;
}

std::vector<double> respace_sigmas(const SchedulerConfig& config, double sigma_max,
                                   double sigma_min, int64_t n) {
  sigma_max = config.sigma_max.value_or(sigma_max);
  sigma_min = config.sigma_min.value_or(sigma_min);
  std::vector<double> sigmas;
  switch (config.sigma_schedule) {
    case SigmaSchedule::kKarras: {
      constexpr double kRho = 7.0;
      const double high = std::pow(sigma_max, 1 / kRho);
      const double low = std::pow(sigma_min, 1 / kRho);
      for (double ramp : linspace(0, 1, n)) {
        sigmas.push_back(std::pow(high + ramp * (low - high), kRho));
      }
      break;
    }
    case SigmaSchedule::kExponential:
    case SigmaSchedule::kLu:
      for (double log_sigma : linspace(std::log(sigma_max), std::log(sigma_min), n)) {
        sigmas.push_back(std::exp(log_sigma));
      }
      break;
    case SigmaSchedule::kBeta:
      for (double ramp : linspace(0, 1, n)) {
        sigmas.push_back(sigma_min + beta_quantile(1 - ramp, 0.6, 0.6) * (sigma_max - sigma_min));
      }
      break;
    case SigmaSchedule::kNone:
      break;
  }
  return sigmas;
}

double beta_quantile(double p, double a, double b) {
  if (p <= 0.0) return 0.0;
  if (p >= 1.0) return 1.0;
  double low = 0.0;
  double high = 1.0;
  while (true) {
    const double middle = 0.5 * (low + high);
    if (middle <= low || middle >= high) return middle;
    (incomplete_beta(middle, a, b) < p ? low : high) = middle;
  }
}

double round_half_even(double value) { return std::nearbyint(value); }

}  // namespace halftone::diffusion
