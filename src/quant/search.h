// Choosing one option for each layer under a budget: the exact multiple-choice knapsack behind
// mixed bit widths.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace halftone::quant {

struct Option {
  int64_t cost = 0;  // e.g. weights x bits
  double value = 0;  // e.g. SQNR in dB; larger is better
  bool operator==(const Option&) const = default;
};

struct Selection {
  std::vector<size_t> chosen;  // option of each class
  int64_t cost = 0;
  double value = 0;
};

// Maximises the sum of values with exactly one option of each class and least_cost <= sum of costs
// <= most_cost; nothing when no selection lies in between. Exact: states (cost, value) are pruned
// by dominance and by the bound of the best Lagrange multiplier; equal values go to the smaller
// cost. Throws kUnsupported when more than `max_states` states are alive (the gap is then too
// degenerate to close).
[[nodiscard]] std::optional<Selection> select_options(
    const std::vector<std::vector<Option>>& classes, int64_t most_cost, int64_t least_cost = 0,
    size_t max_states = 4'000'000);

// Selections that are best for their cost, cheapest first: the convex hull of the front, one for
// each multiplier at which the choice changes.
[[nodiscard]] std::vector<Selection> pareto_hull(const std::vector<std::vector<Option>>& classes);

}  // namespace halftone::quant
