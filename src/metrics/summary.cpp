#include "metrics/summary.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "halftone/error.h"

namespace halftone::metrics {

double quantile(const std::vector<double>& sorted, double q) {
  const double position = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(std::floor(position));
  const size_t above = std::min(below + 1, sorted.size() - 1);
  const double weight = position - static_cast<double>(below);
  return sorted[below] * (1 - weight) + sorted[above] * weight;
}

Summary summarize(std::vector<double> values) {
  check_internal(!values.empty(), "a summary needs a value");
  std::sort(values.begin(), values.end());
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return {.mean = sum / static_cast<double>(values.size()),
          .median = quantile(values, 0.5),
          .p10 = quantile(values, 0.1),
          .min = values.front(),
          .max = values.back()};
}

}  // namespace halftone::metrics
