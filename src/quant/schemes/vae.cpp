#include "quant/schemes/vae.h"

#include <array>

#include <fmt/format.h>

namespace halftone::quant {
namespace {

struct VaePolicy {
  std::string_view name, off;
};

constexpr std::array<VaePolicy, 3> kVaePolicies{
    {{"default", "conv_in|conv_out|conv_shortcut|quant_conv"},
     {"mlperf",
      "conv_out|conv_in|quant_conv|mid_block|decoder.up_blocks.3|up_blocks.2.resnets.2|"
      "up_blocks.2.resnets.1"},
     {"none", ""}}};

// A policy that speaks of the denoiser alone means the default here.
const VaePolicy& policy_of(std::string_view name) {
  for (const VaePolicy& policy : kVaePolicies) {
    if (policy.name == name) return policy;
  }
  return kVaePolicies.front();
}

}  // namespace

Recipe make_vae_recipe(const SchemeOptions& options, DType codes) {
  const bool is_float = codes == DType::kF8E4M3;
  LayerSpec conv;
  conv.weight = channel_weights(codes);
  conv.activation = QuantSpec{.dtype = codes};
  Recipe recipe;
  recipe.scheme = is_float ? "fp8_vae" : "int8_vae";
  recipe.collect = collect_of(options, is_float ? Collect::Method::kMax : Collect::Method::kMse);
  recipe.rules.push_back({".", LayerKind::kConv, conv, recipe.scheme});
  const VaePolicy& policy = policy_of(options.policy);
  if (!policy.off.empty()) {
    recipe.rules.push_back(
        {std::string(policy.off), LayerKind::kAny, {}, fmt::format("policy {}", policy.name)});
  }
  for (const std::string& pattern : options.exclude) {
    recipe.rules.push_back({pattern, LayerKind::kAny, {}, "excluded: " + pattern});
  }
  for (const std::string& pattern : options.include) {
    recipe.rules.push_back({pattern, LayerKind::kConv, conv, "included: " + pattern});
  }
  for (const Rule& rule : recipe.rules) (void)Pattern(rule.pattern);  // refuses malformed ones
  return recipe;
}

}  // namespace halftone::quant
