// One figure over many prompts.
#pragma once

#include <vector>

namespace halftone::metrics {

// Linear interpolation between order statistics (numpy's default); `sorted` is not empty and
// ascending, q is in [0, 1].
[[nodiscard]] double quantile(const std::vector<double>& sorted, double q);

struct Summary {
  double mean = 0, median = 0, p10 = 0, min = 0, max = 0;
};
// `values` must not be empty.
[[nodiscard]] Summary summarize(std::vector<double> values);

}  // namespace halftone::metrics
