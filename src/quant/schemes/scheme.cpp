#include "quant/schemes/scheme.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "halftone/error.h"

namespace halftone::quant {

#define HALFTONE_SCHEME(name) extern const Scheme kScheme_##name;
#include "quant/schemes/schemes.inc"
#undef HALFTONE_SCHEME

namespace {

constexpr std::array kLevels = {1.0, 2.0, 2.5, 3.0, 4.0};

struct Policy {
  std::string_view name;
  std::string_view off;  // pattern; empty = nothing
};

// Sources of the lists: algorithms of the systems they are named after.
constexpr std::string_view kTrt10 =
    "time_emb_proj|time_embedding|conv_in|conv_out|conv_shortcut|add_embedding";
constexpr std::string_view kDefault =
    "time_emb_proj|time_embedding|conv_in|conv_out|conv_shortcut|add_embedding|"
    "up_blocks.2.resnets.2.conv1|up_blocks.2.resnets.2.conv2|"
    "norm1(_context)?\\.linear|pos_embed|time_text_embed|context_embedder|norm_out";
constexpr std::string_view kTheStage =
    "conv_in|conv_out|time_embedding.linear_1|down_blocks.0.downsamplers.0.conv|"
    "down_blocks.1.resnets.0.conv_shortcut|up_blocks.1.resnets.2.conv_shortcut|"
    "up_blocks.2.resnets.[012].conv_shortcut|up_blocks.2.resnets.2.conv2";
constexpr std::array<Policy, 6> kPolicies{{{"default", kDefault},
                                           {"trt10", kTrt10},
                                           {"nemo", kTrt10},
                                           {"mlperf", kDefault},
                                           {"thestage", kTheStage},
                                           {"none", ""}}};

constexpr std::string_view kFeedForward = "ff\\.net|ff_context\\.net";
// Of UNets: an MMDiT's linear before it has an activation that no factor passes.
constexpr std::string_view kGegluReader = "attentions\\..*\\.ff\\.net\\.2$";
constexpr std::string_view kAttentionReader = "attentions\\..*\\.to_out\\.0$";
constexpr std::string_view kQkv = "to_[qkv]$|add_[qkv]_proj$";

// What a static scale must keep. FP8 rounds relatively, so it loses nothing by one.
std::optional<double> least_sqnr(const SchemeOptions& options, std::string_view which,
                                 const LayerSpec& linear) {
  const auto& wanted = options.static_min_sqnr;
  if (wanted && !(*wanted >= 0 && *wanted <= 100)) {
    throw Error(Errc::kInvalidArgument,
                fmt::format("least SQNR of static scales: got {}, wanted 0 to 100 dB", *wanted));
  }
  if (linear.weight && linear.weight->dtype != DType::kI8) return std::nullopt;
  if (wanted || which != "auto") return wanted;
  return kStaticMinSqnr;
}

void check_level(double level) {
  if (std::ranges::find(kLevels, level) != kLevels.end()) return;
  throw Error(Errc::kInvalidArgument,
              fmt::format("quantization level: got {}, wanted 1, 2, 2.5, 3 or 4", level));
}

}  // namespace

std::span<const Scheme* const> schemes() {
  static const std::array kAll = {
#define HALFTONE_SCHEME(name) &kScheme_##name,
#include "quant/schemes/schemes.inc"
#undef HALFTONE_SCHEME
  };
  return kAll;
}

Recipe make_recipe(const SchemeOptions& options) {
  if (options.level) check_level(*options.level);
  for (const Scheme* scheme : schemes()) {
    if (scheme->name != options.scheme) continue;
    Recipe recipe = scheme->make(options);
    recipe.split_shortcut = options.split_shortcut.value_or(false);
    recipe.bos_aware = options.bos_aware.value_or(false);
    return recipe;
  }
  std::string names;
  for (const Scheme* scheme : schemes()) {
    names.append(names.empty() ? "" : ", ").append(scheme->name);
  }
  throw Error(Errc::kInvalidArgument,
              fmt::format("quantization scheme '{}': there are {}", options.scheme, names));
}

void add_levels(Recipe& recipe, double level, const LayerSpec& linear, const LayerSpec& conv) {
  const std::string why = fmt::format("level {}", level);
  if (level >= 1) recipe.rules.push_back({".", LayerKind::kConv, conv, why});
  if (level >= 3) {
    recipe.rules.push_back({".", LayerKind::kLinear, linear, why});
    return;
  }
  if (level >= 2) {
    recipe.rules.push_back({std::string(kFeedForward), LayerKind::kLinear, linear, why});
  }
  if (level >= 2.5) recipe.rules.push_back({std::string(kQkv), LayerKind::kLinear, linear, why});
}

void add_static_producers(Recipe& recipe, const SchemeOptions& options, const LayerSpec& linear,
                          std::string_view by_default, const StaticInput& attention,
                          const StaticInput& ff) {
  const bool is_open = options.static_producers.empty();
  const std::string_view which = is_open ? by_default : std::string_view(options.static_producers);
  constexpr std::array<std::string_view, 5> kNames{"none", "attention", "ff", "all", "auto"};
  if (std::ranges::find(kNames, which) == kNames.end()) {
    throw Error(
        Errc::kInvalidArgument,
        fmt::format("static producers '{}': there are none, attention, ff, all and auto", which));
  }
  const std::optional<double> min_sqnr = least_sqnr(options, which, linear);
  const bool per_token =
      linear.activation && linear.activation->granularity == graph::Granularity::kPerToken;
  if (!per_token) return;
  const auto add = [&](std::string_view pattern, const StaticInput& input, std::string_view why) {
    LayerSpec spec = linear;
    spec.activation->granularity = graph::Granularity::kPerTensor;
    spec.activation->dynamic = false;
    spec.smooth = options.smooth.value_or(input.alpha.has_value());
    spec.alpha = options.alpha.value_or(input.alpha.value_or(linear.alpha));
    spec.margin = input.margin;
    spec.min_sqnr = min_sqnr;
    recipe.rules.push_back(
        {std::string(pattern), LayerKind::kLinear, spec, fmt::format("static: {}", why)});
  };
  const double level = recipe.level.value_or(3);
  const bool both = which == "all" || which == "auto";
  if ((which == "ff" || both) && level >= 2) {
    add(kGegluReader, ff, "GEGLU writes the codes");
  }
  if ((which == "attention" || both) && level >= 3) {
    add(kAttentionReader, attention, "attention writes the codes");
  }
}

// Between the 1,024 tokens with which 8-bit attention is slower on a GPU and the 4,096 with which
// it is faster (docs/performance.md).
constexpr int64_t kLongAttention = 2048;

void add_attention(Recipe& recipe, const SchemeOptions& options, bool dynamic, bool per_token) {
  using graph::Granularity;
  const bool by_level = options.attention.empty();
  const bool only_long = options.attention == "fp8-long";
  const bool only_self = only_long || options.attention == "fp8-self";
  const bool fp8 = by_level ? recipe.scheme.starts_with("fp8") && recipe.level == 4.0
                            : only_self || options.attention == "fp8";
  const bool mixed = options.attention == "int8-fp8";
  if (!by_level && !fp8 && !mixed && options.attention != "none") {
    throw Error(Errc::kInvalidArgument,
                fmt::format("attention '{}': there are none, fp8, fp8-self, fp8-long and int8-fp8",
                            options.attention));
  }
  if (!fp8 && !mixed) return;
  AttentionSpec spec;
  spec.only_self = only_self;
  if (only_long) spec.min_tokens = kLongAttention;
  spec.v = {.dtype = DType::kF8E4M3, .dynamic = dynamic};
  spec.qk = spec.v;
  if (per_token) spec.qk.granularity = Granularity::kPerToken;
  if (mixed) {
    spec.qk = {.granularity = Granularity::kPerToken, .dynamic = true};
    spec.center_keys = true;
  }
  Rule rule{".", LayerKind::kAttention, {}, "attention " + options.attention};
  if (by_level) rule.why = fmt::format("level {}", *recipe.level);
  rule.spec.attention = spec;
  recipe.rules.push_back(std::move(rule));
}

void add_policy(Recipe& recipe, const SchemeOptions& options, const LayerSpec& linear,
                const LayerSpec& conv) {
  const auto policy = std::ranges::find(kPolicies, options.policy, &Policy::name);
  if (policy == kPolicies.end()) {
    std::string names;
    for (const Policy& p : kPolicies) names.append(names.empty() ? "" : ", ").append(p.name);
    throw Error(Errc::kInvalidArgument,
                fmt::format("policy '{}': there are {}", options.policy, names));
  }
  if (!policy->off.empty()) {
    recipe.rules.push_back(
        {std::string(policy->off), LayerKind::kAny, {}, fmt::format("policy {}", policy->name)});
  }
  for (const auto& [pattern, alpha] : options.alphas) {
    if (!linear.smooth) continue;
    LayerSpec spec = linear;
    spec.alpha = alpha;
    recipe.rules.push_back(
        {pattern, LayerKind::kLinear, spec, fmt::format("alpha {}", alpha), true});
  }
  for (const std::string& pattern : options.exclude) {
    recipe.rules.push_back({pattern, LayerKind::kAny, {}, "excluded: " + pattern, true});
  }
  for (const std::string& pattern : options.include) {
    recipe.rules.push_back({pattern, LayerKind::kLinear, linear, "included: " + pattern, true});
    recipe.rules.push_back({pattern, LayerKind::kConv, conv, "included: " + pattern, true});
  }
  for (const Rule& rule : recipe.rules) (void)Pattern(rule.pattern);  // refuses malformed ones
}

Collect collect_of(const SchemeOptions& options, Collect::Method by_default) {
  return {.method = options.method.value_or(by_default),
          .histogram_percentile = options.histogram_percentile,
          .percentile = options.percentile,
          .compat = options.compat};
}

QuantSpec channel_weights(DType dtype, int64_t bits) {
  return {.dtype = dtype, .bits = bits, .granularity = graph::Granularity::kPerChannel};
}

}  // namespace halftone::quant
