// FP8 (E4M3): weights per output channel; inputs dynamic per token or static by plain maximum.
#include "quant/schemes/scheme.h"

namespace halftone::quant {
namespace {

using graph::Granularity;

constexpr double kLevel = 3;
constexpr StaticInput kStaticInput{.alpha = {}, .margin = 1};

LayerSpec fp8(Granularity weight, Granularity activation, bool dynamic) {
  LayerSpec spec;
  spec.weight = QuantSpec{.dtype = DType::kF8E4M3, .granularity = weight};
  spec.activation =
      QuantSpec{.dtype = DType::kF8E4M3, .granularity = activation, .dynamic = dynamic};
  return spec;
}

Recipe make_levels(const SchemeOptions& options, std::string_view name, bool per_token) {
  const LayerSpec conv = fp8(Granularity::kPerChannel, Granularity::kPerTensor, false);
  const LayerSpec linear =
      per_token ? fp8(Granularity::kPerChannel, Granularity::kPerToken, true) : conv;
  Recipe recipe;
  recipe.scheme = name;
  recipe.level = options.level.value_or(kLevel);
  recipe.collect = collect_of(options, Collect::Method::kMax);
  add_levels(recipe, *recipe.level, linear, conv);
  add_static_producers(recipe, options, linear, "all", kStaticInput, kStaticInput);
  add_attention(recipe, options, false);
  add_policy(recipe, options, linear, conv);
  return recipe;
}

Recipe make(const SchemeOptions& options) {
  return make_levels(options, "fp8", options.per_token.value_or(true));
}
Recipe make_static(const SchemeOptions& options) {
  return make_levels(options, "fp8_static", false);
}

Recipe make_linears(const SchemeOptions& options, std::string_view name, const LayerSpec& linear) {
  Recipe recipe;
  recipe.scheme = name;
  recipe.rules.push_back({".", LayerKind::kLinear, linear, "all linears"});
  add_attention(recipe, options, true, linear.activation->granularity == Granularity::kPerToken);
  SchemeOptions all = options;
  if (all.policy == "default") all.policy = "none";
  add_policy(recipe, all, linear, {});
  return recipe;
}

Recipe make_dynamic(const SchemeOptions& options) {
  return make_linears(options, "fp8_e4m3_e4m3_dynamic",
                      fp8(Granularity::kPerChannel, Granularity::kPerToken, true));
}
Recipe make_dynamic_per_tensor(const SchemeOptions& options) {
  return make_linears(options, "fp8_e4m3_e4m3_dynamic_per_tensor",
                      fp8(Granularity::kUniform, Granularity::kPerTensor, true));
}

}  // namespace

extern const Scheme kScheme_fp8, kScheme_fp8_static, kScheme_fp8_e4m3_e4m3_dynamic,
    kScheme_fp8_e4m3_e4m3_dynamic_per_tensor;
const Scheme kScheme_fp8{"fp8", "E4M3: linears dynamic per token, static convolutions", make};
const Scheme kScheme_fp8_static{"fp8_static", "E4M3: static per tensor", make_static};
const Scheme kScheme_fp8_e4m3_e4m3_dynamic{
    "fp8_e4m3_e4m3_dynamic", "E4M3 linears, per token and output channel, no calibration",
    make_dynamic};
const Scheme kScheme_fp8_e4m3_e4m3_dynamic_per_tensor{"fp8_e4m3_e4m3_dynamic_per_tensor",
                                                      "E4M3 linears, per tensor, no calibration",
                                                      make_dynamic_per_tensor};

}  // namespace halftone::quant
