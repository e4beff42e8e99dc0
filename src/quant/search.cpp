#include "quant/search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "halftone/error.h"

namespace halftone::quant {
namespace {

using Classes = std::vector<std::vector<Option>>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The option that maximises value - multiplier * cost; the cheaper of equals.
size_t best_option(const std::vector<Option>& options, double multiplier) {
  size_t best = 0;
  for (size_t i = 1; i < options.size(); ++i) {
    const double gain = options[i].value - options[best].value -
                        multiplier * static_cast<double>(options[i].cost - options[best].cost);
    if (gain > 0 || (gain == 0 && options[i].cost < options[best].cost)) best = i;
  }
  return best;
}

Selection select_at(const Classes& classes, double multiplier) {
  Selection s;
  for (const auto& options : classes) {
    const size_t i = best_option(options, multiplier);
    s.chosen.push_back(i);
    s.cost += options[i].cost;
    s.value += options[i].value;
  }
  return s;
}

// The smallest multiplier (up to rounding) whose selection fits.
double fitting_multiplier(const Classes& classes, int64_t most_cost) {
  if (select_at(classes, 0).cost <= most_cost) return 0;
  double low = 0;
  double high = 1e-12;
  while (select_at(classes, high).cost > most_cost && high < 1e30) {
    low = high;
    high *= 4;
  }
  for (int i = 0; i < 200; ++i) {
    const double middle = 0.5 * (low + high);
    (select_at(classes, middle).cost > most_cost ? low : high) = middle;
  }
  return high;
}

// Uses what the multiplier left of the budget: the best single exchanges, one after the other.
void improve(const Classes& classes, int64_t most_cost, Selection& s) {
  for (;;) {
    size_t from = classes.size();
    size_t to = 0;
    double gain = 0;
    for (size_t c = 0; c < classes.size(); ++c) {
      const Option& now = classes[c][s.chosen[c]];
      for (size_t i = 0; i < classes[c].size(); ++i) {
        const Option& other = classes[c][i];
        if (s.cost - now.cost + other.cost > most_cost || other.value - now.value <= gain) continue;
        gain = other.value - now.value;
        from = c;
        to = i;
      }
    }
    if (from == classes.size()) return;
    s.cost += classes[from][to].cost - classes[from][s.chosen[from]].cost;
    s.value += gain;
    s.chosen[from] = to;
  }
}

struct State {
  int64_t cost;
  double value;
  uint32_t parent;  // in the layer before
  uint16_t option;
};

class Search {
 public:
  Search(const Classes& classes, int64_t most, int64_t least, size_t max_states)
      : classes_(classes), most_(most), least_(least), max_states_(max_states) {}

  std::optional<Selection> run() {
    multiplier_ = fitting_multiplier(classes_, most_);
    Selection first = select_at(classes_, multiplier_);
    if (first.cost <= most_) {
      improve(classes_, most_, first);
      if (first.cost >= least_) incumbent_ = first.value;
    }
    order();
    std::vector<std::vector<State>> layers{{{0, 0.0, 0, 0}}};
    for (size_t depth = 0; depth < order_.size(); ++depth) {
      layers.push_back(expand(layers.back(), depth));
      if (layers.back().empty()) break;
    }
    std::optional<size_t> best;
    const std::vector<State>& last = layers.back();
    if (layers.size() == order_.size() + 1) {
      for (size_t i = 0; i < last.size(); ++i) {
        if (last[i].cost < least_) continue;
        if (!best || last[i].value > last[*best].value) best = i;
      }
    }
    if (!best) return incumbent_ > -kInfinity ? std::optional(first) : std::nullopt;
    if (incumbent_ > last[*best].value) return first;
    return trace(layers, *best);
  }

 private:
  // Classes that the multiplier decides clearly come first: what stays open is then small.
  void order() {
    std::vector<double> margin;
    for (const auto& options : classes_) {
      const size_t best = best_option(options, multiplier_);
      double least = kInfinity;
      for (size_t i = 0; i < options.size(); ++i) {
        if (i != best) least = std::min(least, reduced(options[best]) - reduced(options[i]));
      }
      margin.push_back(least);
    }
    order_.resize(classes_.size());
    std::iota(order_.begin(), order_.end(), size_t{0});
    std::ranges::stable_sort(order_, [&](size_t a, size_t b) { return margin[a] > margin[b]; });
    rest_.assign(order_.size() + 1, 0.0);
    cheapest_.assign(order_.size() + 1, 0);
    dearest_.assign(order_.size() + 1, 0);
    for (size_t depth = order_.size(); depth-- > 0;) {
      const auto& options = classes_[order_[depth]];
      const auto [low, high] = std::ranges::minmax_element(options, {}, &Option::cost);
      rest_[depth] = rest_[depth + 1] + reduced(options[best_option(options, multiplier_)]);
      cheapest_[depth] = cheapest_[depth + 1] + low->cost;
      dearest_[depth] = dearest_[depth + 1] + high->cost;
    }
  }

  [[nodiscard]] double reduced(const Option& option) const {
    return option.value - multiplier_ * static_cast<double>(option.cost);
  }

  // No completion of the state is worth more (the Lagrange bound).
  [[nodiscard]] double bound(const State& state, size_t depth) const {
    return state.value + rest_[depth] + multiplier_ * static_cast<double>(most_ - state.cost);
  }

  std::vector<State> expand(const std::vector<State>& states, size_t depth) const {
    std::vector<State> next;
    const double slack = 1e-9 * (1.0 + std::fabs(incumbent_));
    const auto& options = classes_[order_[depth]];
    for (size_t parent = 0; parent < states.size(); ++parent) {
      for (size_t i = 0; i < options.size(); ++i) {
        const State state{states[parent].cost + options[i].cost,
                          states[parent].value + options[i].value, static_cast<uint32_t>(parent),
                          static_cast<uint16_t>(i)};
        if (state.cost + cheapest_[depth + 1] > most_ ||
            state.cost + dearest_[depth + 1] < least_ ||
            (incumbent_ > -kInfinity && bound(state, depth + 1) < incumbent_ - slack)) {
          continue;
        }
        next.push_back(state);
      }
    }
    prune(next, depth + 1);
    if (next.size() > max_states_) {
      throw Error(Errc::kUnsupported,
                  "bit allocation: too many equally good choices; widen the "
                  "budget's tolerance or round the values");
    }
    return next;
  }

  // Keeps states that no cheaper one equals in value. Where the lower limit may still bind, only
  // states of equal cost are compared.
  void prune(std::vector<State>& states, size_t depth) const {
    std::ranges::sort(states, [](const State& a, const State& b) {
      return a.cost != b.cost ? a.cost < b.cost : a.value > b.value;
    });
    std::vector<State> kept;
    double best = -kInfinity;
    for (const State& state : states) {
      const bool safe = state.cost + cheapest_[depth] >= least_;
      const bool same_cost = !kept.empty() && kept.back().cost == state.cost;
      if (same_cost || (safe && state.value <= best)) continue;
      kept.push_back(state);
      if (safe) best = std::max(best, state.value);
    }
    states = std::move(kept);
  }

  [[nodiscard]] Selection trace(const std::vector<std::vector<State>>& layers, size_t at) const {
    Selection s;
    s.chosen.resize(classes_.size());
    for (size_t depth = order_.size(); depth-- > 0;) {
      const State& state = layers[depth + 1][at];
      s.chosen[order_[depth]] = state.option;
      at = state.parent;
    }
    for (size_t c = 0; c < classes_.size(); ++c) {
      s.cost += classes_[c][s.chosen[c]].cost;
      s.value += classes_[c][s.chosen[c]].value;
    }
    return s;
  }

  const Classes& classes_;
  int64_t most_, least_;
  size_t max_states_;
  double multiplier_ = 0;
  double incumbent_ = -kInfinity;
  std::vector<size_t> order_;
  std::vector<double> rest_;
  std::vector<int64_t> cheapest_, dearest_;
};

}  // namespace

std::optional<Selection> select_options(const Classes& classes, int64_t most_cost,
                                        int64_t least_cost, size_t max_states) {
  for (const auto& options : classes) {
    check_internal(!options.empty() && options.size() < 65536, "every class has options");
    for (const Option& option : options) {
      check_internal(option.cost >= 0 && std::isfinite(option.value), "options are finite");
    }
  }
  return Search(classes, most_cost, least_cost, max_states).run();
}

std::vector<Selection> pareto_hull(const Classes& classes) {
  // All multipliers at which some class changes its choice.
  std::vector<double> steps{0.0};
  for (const auto& options : classes) {
    for (const Option& a : options) {
      for (const Option& b : options) {
        if (a.cost <= b.cost || a.value <= b.value) continue;
        steps.push_back((a.value - b.value) / static_cast<double>(a.cost - b.cost));
      }
    }
  }
  std::ranges::sort(steps, std::greater<>());
  std::vector<Selection> hull;
  for (const double step : steps) {
    for (const double multiplier : {step * (1 + 1e-12), step * (1 - 1e-12)}) {
      Selection s = select_at(classes, multiplier);
      if (hull.empty() || s.cost > hull.back().cost) hull.push_back(std::move(s));
    }
  }
  return hull;
}

}  // namespace halftone::quant
