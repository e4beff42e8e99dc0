// INT8: weights per output channel; inputs of linears dynamic per token, or static per tensor with
// SmoothQuant; of convolutions static per tensor.
#include "quant/schemes/scheme.h"

namespace halftone::quant {
namespace {

constexpr double kLevel = 3;
constexpr double kFollowedLevel = 2.5;  // the source systems' default
constexpr double kAlpha = 0.8;
// Of static inputs beside ones per token: smoothed, which costs nothing before GEGLU and attention,
// with room for prompts that the record does not know (docs/quantization.md).
constexpr StaticInput kStaticAttention{.alpha = 0.5, .margin = 1.5};
constexpr StaticInput kStaticFeedForward{.alpha = 0.8, .margin = 1.25};

LayerSpec w8a8(bool per_token) {
  LayerSpec spec;
  spec.weight = channel_weights(DType::kI8);
  spec.activation = QuantSpec{
      .granularity = per_token ? graph::Granularity::kPerToken : graph::Granularity::kPerTensor,
      .dynamic = per_token};
  return spec;
}

Recipe make(const SchemeOptions& options) {
  // The source systems' flows have static scales.
  const bool follows = options.compat != Collect::Compat::kNone;
  const bool per_token = options.per_token.value_or(!follows);
  LayerSpec linear = w8a8(per_token);
  // A scale per token meets most outliers; smoothing then costs the weights more than it saves.
  const bool has_alpha = options.alpha || !options.alphas.empty();
  linear.smooth = options.smooth.value_or(!per_token || has_alpha);
  linear.alpha = options.alpha.value_or(kAlpha);
  const LayerSpec conv = w8a8(false);
  Recipe recipe;
  recipe.scheme = "int8";
  recipe.level = options.level.value_or(follows ? kFollowedLevel : kLevel);
  if (linear.smooth) recipe.alpha = linear.alpha;
  recipe.collect = collect_of(options, Collect::Method::kMinMean);
  add_levels(recipe, *recipe.level, linear, conv);
  add_static_producers(recipe, options, linear, "none", kStaticAttention, kStaticFeedForward);
  add_attention(recipe, options, false);
  add_policy(recipe, options, linear, conv);
  return recipe;
}

// Linears only, nothing calibrated.
Recipe make_dynamic(const SchemeOptions& options) {
  const LayerSpec linear = w8a8(true);
  Recipe recipe;
  recipe.scheme = "int8_dynamic";
  recipe.rules.push_back({".", LayerKind::kLinear, linear, "int8_dynamic"});
  add_attention(recipe, options, true);
  add_policy(recipe, options, linear, {});
  return recipe;
}

Recipe make_weights(const SchemeOptions& options, std::string_view name, int64_t bits) {
  LayerSpec spec;
  spec.weight = channel_weights(DType::kI8, bits);
  Recipe recipe;
  recipe.scheme = name;
  recipe.rules.push_back({".", LayerKind::kLinear, spec, std::string(name)});
  add_attention(recipe, options, true);
  add_policy(recipe, options, spec, spec);
  return recipe;
}

Recipe make_int8_weights(const SchemeOptions& options) {
  return make_weights(options, "int8_weightonly", 8);
}
Recipe make_int4_weights(const SchemeOptions& options) {
  return make_weights(options, "int4_weightonly", 4);
}

}  // namespace

extern const Scheme kScheme_int8, kScheme_int8_dynamic, kScheme_int8_weightonly,
    kScheme_int4_weightonly;
const Scheme kScheme_int8{"int8", "W8A8: linears per token, static convolutions", make};
const Scheme kScheme_int8_dynamic{"int8_dynamic", "W8A8 linears per token, no calibration",
                                  make_dynamic};
const Scheme kScheme_int8_weightonly{"int8_weightonly", "8-bit weights of linears",
                                     make_int8_weights};
const Scheme kScheme_int4_weightonly{"int4_weightonly", "4-bit weights of linears",
                                     make_int4_weights};

}  // namespace halftone::quant
