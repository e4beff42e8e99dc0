#include "workflow/bit_search.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "halftone/error.h"

#include "base/file.h"
#include "quant/imports/mixdq.h"
#include "quant/search.h"
#include "workflow/layer_sqnr.h"
#include "workflow/model.h"
#include "workflow/plans.h"

namespace halftone::workflow {
namespace {

namespace fs = std::filesystem;

constexpr std::array<int64_t, 3> kWidths = {2, 4, 8};
constexpr double kTolerance = 0.02;  // bits, MixDQ's
constexpr double kMostSqnr = 100;    // dB; equal outputs are infinitely good

// Share of a layer's output energy that is error. Its sum is minimised: a sum of decibels would buy
// many fine layers with a few that are lost.
double noise_share(double sqnr) { return std::pow(10.0, -sqnr / 10.0); }

quant::Recipe with_width(quant::Recipe recipe, int64_t bits) {
  for (quant::Rule& rule : recipe.rules) {
    if (rule.spec.weight) rule.spec.weight->bits = bits;
  }
  return recipe;
}

// Removes the file when it leaves.
struct TemporaryFile {
  fs::path path;
  ~TemporaryFile() {
    std::error_code ignored;
    fs::remove(path, ignored);
  }
};

std::map<std::string, double> measure(backend::Device& device, const SessionOptions& session,
                                      const GenerateOptions& generate,
                                      const quant::Recipe& recipe) {
  const TemporaryFile file{fs::temp_directory_path() /
                           fmt::format("halftone-{}.json", recipe.hash().substr(0, 16))};
  write_file_atomically(file.path, quant::to_json(recipe));
  SessionOptions with_recipe = session;
  with_recipe.quantization.recipe = file.path.string();
  std::map<std::string, double> sqnr;
  for (const LayerComparison& layer : layer_sqnr(device, with_recipe, generate)) {
    sqnr[layer.name] = std::clamp(layer.sqnr, -kMostSqnr, kMostSqnr);
  }
  return sqnr;
}

std::map<std::string, int64_t> weight_counts(backend::Device& device, const Model& model) {
  PlanOptions plain;
  plain.precision = Precision::kF32;
  const PlanMaker plans(model, device, plain);
  const int64_t extent = model.facts.sample_size;
  const graph::Graph graph =
      plans.graph("unet", {{"batch", 1},
                           {"height", extent},
                           {"width", extent},
                           {"text_tokens", model.tokenizers.front()->max_length()},
                           {"cfg", 1}});
  std::map<std::string, int64_t> counts;
  for (const graph::Node& node : graph.nodes()) {
    if (!quant::is_layer(graph, node)) continue;
    for (const graph::Operand& operand : node.inputs) {
      if (operand.role != graph::Role::kWeight) continue;
      counts[node.name] = graph.type(operand.value).shape.num_elements();
    }
  }
  return counts;
}

// A rule that gives one layer its weight bits.
void add_width(const quant::Recipe& base, const std::string& layer, int64_t bits, double sqnr,
               quant::Recipe& recipe) {
  const quant::RuleMatcher matcher(base);
  for (const quant::LayerKind kind : {quant::LayerKind::kLinear, quant::LayerKind::kConv}) {
    quant::LayerSpec spec = matcher.choose(layer, kind).spec;
    if (!spec.weight) continue;
    spec.weight->bits = bits;
    recipe.rules.push_back({quant::exact_pattern(layer), kind, spec,
                            fmt::format("search: {} bits, {:.1f} dB", bits, sqnr)});
  }
}

}  // namespace

BitSearch search_bits(backend::Device& device, const SessionOptions& session,
                      const GenerateOptions& generate, double target_bits) {
  if (!(target_bits >= 2 && target_bits <= 8)) {
    throw Error(Errc::kInvalidArgument,
                fmt::format("--target-bits: got {}, wanted 2 to 8", target_bits));
  }
  const Model model = open_model(session.model, session.cache_dir, session.logger);
  const auto base = recipe_of(session.quantization, Precision::kI8, model);
  const auto counts = weight_counts(device, model);
  std::array<std::map<std::string, double>, kWidths.size()> sqnr;
  for (size_t i = 0; i < kWidths.size(); ++i) {
    sqnr[i] = measure(device, session, generate, with_width(*base, kWidths[i]));
  }
  std::vector<std::string> names;
  std::vector<std::vector<quant::Option>> classes;
  int64_t total = 0;
  for (const auto& [name, ignored] : sqnr.back()) {
    const int64_t count = counts.at(name);
    std::vector<quant::Option> options;
    for (size_t i = 0; i < kWidths.size(); ++i) {
      if (sqnr[i].contains(name))
        options.push_back({count * kWidths[i], -noise_share(sqnr[i].at(name))});
    }
    if (options.size() != kWidths.size()) continue;
    names.push_back(name);
    classes.push_back(std::move(options));
    total += count;
  }
  const auto budget = [&](double bits) {
    return static_cast<int64_t>(std::floor(bits * static_cast<double>(total)));
  };
  const auto chosen = quant::select_options(classes, budget(target_bits + kTolerance),
                                            budget(target_bits - kTolerance));
  if (!chosen) {
    throw Error(
        Errc::kUnsupported,
        fmt::format("--target-bits {}: no choice of 2, 4 and 8 bits has this mean", target_bits));
  }
  BitSearch result;
  result.recipe = with_width(*base, 8);
  result.recipe.scheme = fmt::format("mixed-w{:.2f}a8", target_bits);
  for (size_t i = 0; i < names.size(); ++i) {
    const size_t width = chosen->chosen[i];
    if (kWidths[width] < 8) {
      add_width(*base, names[i], kWidths[width], sqnr[width].at(names[i]), result.recipe);
    }
  }
  result.bits = static_cast<double>(chosen->cost) / static_cast<double>(total);
  result.noise = -chosen->value;
  for (const quant::Selection& point : quant::pareto_hull(classes)) {
    result.front +=
        fmt::format("{:.4f} {:.5g}\n", static_cast<double>(point.cost) / static_cast<double>(total),
                    -point.value);
  }
  return result;
}

}  // namespace halftone::workflow
