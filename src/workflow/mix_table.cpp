// The choice alone: costs, hull and knapsack over a table of sensitivities.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "halftone/error.h"

#include "quant/imports/mixdq.h"
#include "workflow/auto_search.h"

namespace halftone::workflow {
namespace {

constexpr double kTicksPerMs = 1e4;

double noise_of(const MixTable& table, size_t layer, size_t format) {
  return format == 0 ? 0.0 : table.layers[layer].effects[format - 1]->noise;
}

uint64_t bytes_of(const MixTable& table, size_t layer, size_t format) {
  const LayerSensitivity& l = table.layers[layer];
  const int bits = format == 0 ? 0 : l.effects[format - 1]->weight_bits;
  return l.weight_bytes(bits, table.kept_bits);
}

double saved_of(const MixTable& table, size_t layer, size_t format) {
  return table.saved_ms.empty() ? 0.0 : table.saved_ms[layer][format];
}

// Time that is lost against the fastest choice of each layer, in ticks; sizes in bytes.
std::vector<std::vector<quant::Option>> classes_of(const MixTable& table) {
  std::vector<std::vector<quant::Option>> classes;
  for (size_t i = 0; i < table.layers.size(); ++i) {
    double most = 0;
    for (const size_t format : table.options[i]) {
      most = std::max(most, saved_of(table, i, format));
    }
    std::vector<quant::Option> options;
    for (const size_t format : table.options[i]) {
      const int64_t cost = table.saved_ms.empty()
                               ? static_cast<int64_t>(bytes_of(table, i, format))
                               : std::llround((most - saved_of(table, i, format)) * kTicksPerMs);
      options.push_back({cost, -noise_of(table, i, format)});
    }
    classes.push_back(std::move(options));
  }
  return classes;
}

// Milliseconds of a step when every layer is as fast as it can be.
double fastest_ms(const MixTable& table) {
  double ms = table.step_ms;
  for (size_t i = 0; i < table.layers.size(); ++i) {
    double most = 0;
    for (const size_t format : table.options[i]) {
      most = std::max(most, saved_of(table, i, format));
    }
    ms -= most;
  }
  return ms;
}

// Exact, or the hull's best choice where the gap is too degenerate to close.
std::vector<size_t> best_within(const MixTable& table, int64_t most_cost) {
  const auto classes = classes_of(table);
  try {
    if (auto found = quant::select_options(classes, most_cost)) return std::move(found->chosen);
    return {};
  } catch (const Error& error) {
    if (error.code() != Errc::kUnsupported) throw;
  }
  std::vector<size_t> best;
  for (quant::Selection& point : quant::pareto_hull(classes)) {
    if (point.cost <= most_cost) best = std::move(point.chosen);
  }
  return best;
}

}  // namespace

FrontPoint point_of(const MixTable& table, const std::vector<size_t>& chosen) {
  FrontPoint point;
  point.bytes = table.fixed_bytes;
  point.step_ms = table.step_ms;
  for (const std::string& format : table.formats) point.formats.emplace_back(format, 0);
  for (size_t i = 0; i < chosen.size(); ++i) {
    const size_t format = table.options[i][chosen[i]];
    point.bytes += bytes_of(table, i, format);
    point.noise += noise_of(table, i, format);
    point.step_ms -= saved_of(table, i, format);
    ++point.formats[format].second;
  }
  return point;
}

quant::Recipe recipe_of(const MixTable& table, const std::vector<size_t>& chosen,
                        const quant::Collect& collect) {
  quant::Recipe recipe;
  recipe.scheme = "auto";
  recipe.collect = collect;
  recipe.split_shortcut = std::ranges::any_of(table.recipes, &quant::Recipe::split_shortcut);
  recipe.bos_aware = std::ranges::any_of(table.recipes, &quant::Recipe::bos_aware);
  std::vector<quant::RuleMatcher> matchers;
  for (const quant::Recipe& format : table.recipes) matchers.emplace_back(format);
  for (size_t i = 0; i < chosen.size(); ++i) {
    const size_t format = table.options[i][chosen[i]];
    const LayerSensitivity& layer = table.layers[i];
    const double noise = noise_of(table, i, format);
    recipe.rules.push_back({quant::exact_pattern(layer.name), layer.kind,
                            matchers[format].choose(layer.name, layer.kind).spec,
                            format == 0
                                ? std::string("search: kept")
                                : fmt::format("search: {}, {:.1f} dB", table.formats[format],
                                              noise > 0 ? -10 * std::log10(noise) : 200.0)});
  }
  return recipe;
}

std::vector<quant::Selection> front_of(const MixTable& table) {
  return quant::pareto_hull(classes_of(table));
}

std::vector<size_t> within_bytes(const MixTable& table, uint64_t max_bytes) {
  const auto room = static_cast<int64_t>(max_bytes) - static_cast<int64_t>(table.fixed_bytes);
  std::vector<size_t> chosen;
  if (room >= 0) chosen = best_within(table, room);
  if (!chosen.empty()) return chosen;
  throw Error(Errc::kUnsupported,
              fmt::format("--max-size {}: the smallest mix of these formats has {} bytes",
                          max_bytes, point_of(table, front_of(table).front().chosen).bytes));
}

std::vector<size_t> within_time(const MixTable& table, double step_ms) {
  const double room = (step_ms - fastest_ms(table)) * kTicksPerMs;
  std::vector<size_t> chosen;
  if (room >= 0) chosen = best_within(table, static_cast<int64_t>(std::floor(room)));
  if (!chosen.empty()) return chosen;
  throw Error(
      Errc::kUnsupported,
      fmt::format("--target-speedup: a step of {:.2f} ms is wanted; the fastest mix of "
                  "these formats takes {:.2f} ms of {:.2f} ms ({:.2f}x)",
                  step_ms, fastest_ms(table), table.step_ms, table.step_ms / fastest_ms(table)));
}

}  // namespace halftone::workflow
