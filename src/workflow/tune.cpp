#include "workflow/tune.h"

#include <array>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "quant/imports/mixdq.h"
#include "workflow/layer_sqnr.h"

namespace halftone::workflow {
namespace {

using Method = quant::Collect::Method;

// One column of the table of forms; linears and convolutions choose on their own, so each form
// tries one smoothing and one collect method. Equal results go to the earlier one.
struct Form {
  std::optional<double> alpha;
  Method method;
  double histogram_percentile = 0;
};
constexpr std::array kForms = {
    Form{std::nullopt, Method::kMse},    Form{0.25, Method::kMax},
    Form{0.5, Method::kMinMean},         Form{0.65, Method::kHistogram, 99.99},
    Form{0.8, Method::kHistogram, 99.9},
};

std::string name_of(const Form& form, bool linear) {
  if (linear) return form.alpha ? fmt::format("alpha {}", *form.alpha) : "no smoothing";
  quant::Collect collect;
  collect.method = form.method;
  collect.histogram_percentile = form.histogram_percentile;
  return quant::method_name(collect);
}

// The recipe with one form for every layer.
Quantization with_form(const Quantization& base, const Form& form) {
  Quantization result = base;
  for (quant::Rule& rule : result.recipe.rules) {
    if (!rule.spec.activation || rule.kind == quant::LayerKind::kConv) continue;
    rule.spec.smooth = form.alpha.has_value();
    rule.spec.alpha = form.alpha.value_or(quant::LayerSpec{}.alpha);
  }
  result.recipe.collect.method = form.method;
  if (form.method == Method::kHistogram) {
    result.recipe.collect.histogram_percentile = form.histogram_percentile;
  }
  return result;
}

double noise_share(double sqnr) { return std::pow(10.0, -sqnr / 10.0); }

// What a form makes of a group.
struct Result {
  double noise = 0;  // sum of the layers' shares
  std::vector<const MeasuredLayer*> layers;
};

quant::Rule rule_of(const MeasuredLayer& layer, const quant::RuleMatcher& matcher,
                    std::string why) {
  quant::LayerSpec spec = matcher.choose(layer.report.name, layer.report.kind).spec;
  const bool is_static = spec.activation && !spec.activation->dynamic;
  const bool smoothed = spec.smooth && layer.report.kind == quant::LayerKind::kLinear;
  if (is_static && !smoothed && !spec.input_amax) spec.input_amax = layer.report.input_amax;
  return {quant::exact_pattern(layer.report.name), layer.report.kind, spec, std::move(why)};
}

}  // namespace

quant::Recipe tune_recipe(backend::Device& device, const SessionOptions& session,
                          const GenerateOptions& generate, std::span<const std::string> prompts,
                          const Quantization& base, TunedLayers* counts) {
  std::vector<Quantization> candidates;
  for (const Form& form : kForms) candidates.push_back(with_form(base, form));
  const auto measured = measure_layers(device, session, generate, prompts, candidates);

  std::map<size_t, std::array<Result, kForms.size()>> groups;
  for (size_t c = 0; c < candidates.size(); ++c) {
    for (const MeasuredLayer& layer : measured[c]) {
      Result& result = groups[layer.group][c];
      result.noise += noise_share(layer.sqnr);
      result.layers.push_back(&layer);
    }
  }
  std::vector<quant::RuleMatcher> matchers;
  for (const Quantization& candidate : candidates) matchers.emplace_back(candidate.recipe);
  quant::Recipe recipe = candidates.front().recipe;
  recipe.alpha.reset();
  TunedLayers tuned;
  for (const auto& [group, results] : groups) {
    size_t best = 0;
    for (size_t c = 1; c < results.size(); ++c) {
      if (results[c].layers.size() != results[0].layers.size()) continue;
      if (results[c].noise < results[best].noise) best = c;
    }
    ++tuned.total;
    if (best == 0) ++tuned.unchanged;
    for (size_t i = 0; i < results[best].layers.size(); ++i) {
      const MeasuredLayer& layer = *results[best].layers[i];
      const bool linear = layer.report.kind == quant::LayerKind::kLinear;
      if (i == 0 && linear && !layer.report.smoothing.empty()) ++tuned.smoothed;
      if (best == 0) continue;
      recipe.rules.push_back(
          rule_of(layer, matchers[best],
                  fmt::format("{}; measured: {}, {:.1f} dB ({}: {:.1f})", layer.report.why,
                              name_of(kForms[best], linear), layer.sqnr, name_of(kForms[0], linear),
                              results[0].layers[i]->sqnr)));
    }
  }
  if (counts != nullptr) *counts = tuned;
  return recipe;
}

}  // namespace halftone::workflow
