#include "workflow/bit_search.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include <fmt/format.h>

#include "halftone/error.h"

#include "quant/search.h"
#include "workflow/model.h"
#include "workflow/quantization.h"

namespace halftone::workflow {
namespace {

constexpr std::array<int, 3> kWeightWidths = {2, 4, 8};
constexpr std::array<int, 2> kInputWidths = {4, 8};
constexpr double kTolerance = 0.02;  // bits, MixDQ's
constexpr size_t kMostMeasured = 3;  // prompts that the layers are measured with, a step each

quant::Recipe with_weights(quant::Recipe recipe, int bits) {
  for (quant::Rule& rule : recipe.rules) {
    if (rule.spec.weight) rule.spec.weight->bits = bits;
  }
  return recipe;
}

// Inputs alone.
quant::Recipe with_inputs(quant::Recipe recipe, int bits) {
  for (quant::Rule& rule : recipe.rules) {
    rule.spec.weight.reset();
    if (rule.spec.activation) rule.spec.activation->bits = bits;
  }
  return recipe;
}

std::string weight_format(int bits) { return fmt::format("w{}", bits); }
std::string input_format(int bits) { return fmt::format("a{}", bits); }

size_t format_index(const SensitivityTable& table, const std::string& name) {
  const auto found = std::ranges::find(table.formats, name);
  check_internal(found != table.formats.end(), "the table lacks a format");
  return static_cast<size_t>(found - table.formats.begin());
}

// MixDQ's content group: what the text and the feed-forward layers decide.
bool is_content(const std::string& layer) {
  return layer.find("attn2") != std::string::npos || layer.find("ff") != std::string::npos;
}

// One of the two programs: widths of weights or of inputs.
class Program {
 public:
  Program(const SensitivityTable& table, const BitTargets& targets, bool inputs)
      : targets_(targets), option_(inputs ? "--target-act-bits" : "--target-bits") {
    std::vector<int> widths(kWeightWidths.begin(), kWeightWidths.end());
    if (inputs) widths.assign(kInputWidths.begin(), kInputWidths.end());
    widths_ = widths;
    for (const LayerSensitivity& layer : table.layers) add(table, layer, inputs);
  }

  [[nodiscard]] bool empty() const { return names_.empty(); }

  // Widths of the layers, by name.
  quant::BitTable solve(double target, double& mean, double& noise) {
    if (targets_.objective == BitObjective::kUniform) return uniform(target, mean, noise);
    const auto chosen =
        quant::select_options(classes_, budget(target + kTolerance), budget(target - kTolerance));
    if (!chosen) {
      throw Error(Errc::kUnsupported, fmt::format("{} {}: no choice of {} bits has this mean",
                                                  option_, target, fmt::join(widths_, ", ")));
    }
    return table_of(chosen->chosen, mean, noise);
  }

  [[nodiscard]] std::vector<FrontPoint> front() const {
    std::vector<FrontPoint> points;
    for (const quant::Selection& selection : quant::pareto_hull(classes_)) {
      points.push_back(point_of(selection.chosen));
    }
    points.push_back(point_of(chosen_));
    points.back().chosen = true;
    std::ranges::stable_sort(points, {}, &FrontPoint::bytes);
    return points;
  }

 private:
  void add(const SensitivityTable& table, const LayerSensitivity& layer, bool inputs) {
    const int64_t count = inputs ? layer.num_inputs : layer.num_weights;
    std::vector<quant::Option> options;
    for (const int width : widths_) {
      const size_t format =
          format_index(table, inputs ? input_format(width) : weight_format(width));
      const std::optional<Effect>& effect = layer.effects[format];
      if (!effect) return;
      options.push_back({count * width, -loss(layer.name, *effect)});
    }
    if (inputs && std::ranges::find(targets_.protect, layer.name) != targets_.protect.end()) return;
    names_.push_back(layer.name);
    layers_.push_back(&layer);
    classes_.push_back(std::move(options));
    total_ += count;
  }

  [[nodiscard]] double loss(const std::string& layer, const Effect& effect) const {
    switch (targets_.objective) {
      case BitObjective::kSsim:
        return effect.ssim_loss;
      case BitObjective::kAuto:
        return is_content(layer) ? effect.ssim_loss : effect.noise;
      case BitObjective::kSqnr:
      case BitObjective::kUniform:
        break;
    }
    return effect.noise;
  }

  [[nodiscard]] int64_t budget(double bits) const {
    return static_cast<int64_t>(std::floor(bits * static_cast<double>(total_)));
  }
  [[nodiscard]] double bits_of(int64_t cost) const {
    return static_cast<double>(cost) / static_cast<double>(total_);
  }

  quant::BitTable uniform(double target, double& mean, double& noise) {
    const auto found = std::ranges::find(widths_, static_cast<int>(std::lround(target)));
    if (found == widths_.end() || static_cast<double>(*found) != target) {
      throw Error(Errc::kInvalidArgument, fmt::format("{}: got {}, uniform widths are {}", option_,
                                                      target, fmt::join(widths_, ", ")));
    }
    const std::vector<size_t> chosen(names_.size(), static_cast<size_t>(found - widths_.begin()));
    return table_of(chosen, mean, noise);
  }

  // Of the weights.
  [[nodiscard]] FrontPoint point_of(const std::vector<size_t>& chosen) const {
    FrontPoint point;
    for (const int width : widths_) point.formats.emplace_back(weight_format(width), 0);
    for (size_t i = 0; i < chosen.size(); ++i) {
      point.bytes += layers_[i]->weight_bytes(widths_[chosen[i]]);
      point.noise -= classes_[i][chosen[i]].value;
      ++point.formats[chosen[i]].second;
    }
    return point;
  }

  quant::BitTable table_of(const std::vector<size_t>& chosen, double& mean, double& noise) {
    chosen_ = chosen;
    quant::BitTable result;
    int64_t cost = 0;
    for (size_t i = 0; i < names_.size(); ++i) {
      const quant::Option& option = classes_[i][chosen[i]];
      result[names_[i]] = widths_[chosen[i]];
      cost += option.cost;
      noise -= option.value;
    }
    mean = bits_of(cost);
    return result;
  }

  const BitTargets& targets_;
  std::string_view option_;
  std::vector<int> widths_;
  std::vector<std::string> names_;
  std::vector<const LayerSensitivity*> layers_;
  std::vector<std::vector<quant::Option>> classes_;
  std::vector<size_t> chosen_;
  int64_t total_ = 0;
};

void check_targets(const BitTargets& targets) {
  if (!(targets.weights >= 2 && targets.weights <= 8)) {
    throw Error(Errc::kInvalidArgument,
                fmt::format("--target-bits: got {}, wanted 2 to 8", targets.weights));
  }
  if (targets.inputs && !(*targets.inputs >= 4 && *targets.inputs <= 8)) {
    throw Error(Errc::kInvalidArgument,
                fmt::format("--target-act-bits: got {}, wanted 4 to 8", *targets.inputs));
  }
}

void check_protected(const BitTargets& targets, const SensitivityTable& table) {
  for (const std::string& name : targets.protect) {
    if (std::ranges::find(table.layers, name, &LayerSensitivity::name) != table.layers.end()) {
      continue;
    }
    throw Error(Errc::kInvalidArgument,
                fmt::format("--protect: '{}' is no layer that the recipe quantizes", name));
  }
}

}  // namespace

std::vector<SensitivityFormat> bit_formats(const quant::Recipe& base, bool inputs) {
  std::vector<SensitivityFormat> formats;
  for (const int bits : kWeightWidths) {
    formats.push_back({weight_format(bits), with_weights(base, bits)});
  }
  if (!inputs) return formats;
  for (const int bits : kInputWidths) {
    formats.push_back({input_format(bits), with_inputs(base, bits)});
  }
  return formats;
}

BitSearch choose_bits(const quant::Recipe& base, const SensitivityTable& table,
                      const BitTargets& targets) {
  check_targets(targets);
  check_protected(targets, table);
  BitSearch result;
  Program weights(table, targets, false);
  result.weights = weights.solve(targets.weights, result.bits, result.noise);
  result.points = weights.front();
  if (targets.inputs) {
    Program inputs(table, targets, true);
    double mean = 0;
    result.inputs = inputs.solve(*targets.inputs, mean, result.noise);
    result.act_bits = mean;
  }
  result.recipe = base;
  result.recipe.scheme =
      fmt::format("mixed-w{:.2f}a{:.4g}", targets.weights, targets.inputs.value_or(8.0));
  const quant::RuleMatcher matcher(base);
  for (const LayerSensitivity& layer : table.layers) {
    const auto weight = result.weights.find(layer.name);
    if (weight == result.weights.end()) continue;
    const quant::LayerSpec before = matcher.choose(layer.name, layer.kind).spec;
    quant::LayerSpec spec = before;
    spec.weight->bits = weight->second;
    const auto input = result.inputs.find(layer.name);
    if (spec.activation && input != result.inputs.end()) spec.activation->bits = input->second;
    if (std::ranges::find(targets.protect, layer.name) != targets.protect.end()) {
      spec.activation.reset();
      spec.smooth = false;
    }
    if (spec == before) continue;
    result.recipe.rules.push_back(
        {quant::exact_pattern(layer.name), layer.kind, spec,
         fmt::format("search: w{}{}", weight->second,
                     spec.activation ? fmt::format("a{}", spec.activation->bits) : "")});
  }
  return result;
}

BitSearch search_bits(backend::Device& device, const SessionOptions& session,
                      const GenerateOptions& generate, const BitTargets& targets) {
  check_targets(targets);
  const Model model = open_model(session.model, session.cache_dir, session.logger);
  const auto base = recipe_of(session.quantization, Precision::kI8, model);
  SensitivityOptions options;
  options.formats = bit_formats(*base, targets.inputs.has_value());
  options.num_points = static_cast<int>(kMostMeasured);
  options.prompts = targets.prompts;
  if (options.prompts.size() > kMostMeasured) options.prompts.resize(kMostMeasured);
  options.ssim =
      targets.objective == BitObjective::kSsim || targets.objective == BitObjective::kAuto;
  return choose_bits(*base, measure_sensitivity(device, session, generate, options), targets);
}

}  // namespace halftone::workflow
