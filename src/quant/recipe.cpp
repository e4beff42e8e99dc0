#include "quant/recipe.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "halftone/error.h"
#include "halftone/near_miss.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "quant/record.h"
#include "quant/split.h"

namespace halftone::quant {
namespace {

constexpr int64_t kVersion = 1;
constexpr size_t kMaxRules = 20'000;
constexpr size_t kMaxStates = 1'000'000;  // of all patterns together

constexpr std::array<std::pair<LayerKind, std::string_view>, 4> kKinds{
    {{LayerKind::kAny, "any"},
     {LayerKind::kLinear, "linear"},
     {LayerKind::kConv, "conv2d"},
     {LayerKind::kAttention, "attention"}}};

std::string_view kind_name(LayerKind kind) {
  return std::ranges::find(kKinds, kind, &decltype(kKinds)::value_type::first)->second;
}

Json to_json(const QuantSpec& spec, bool is_weight) {
  Json json = Json::object({{"dtype", to_string(spec.dtype)},
                            {"bits", spec.bits},
                            {"granularity", to_string(spec.granularity)}});
  if (is_weight) return json;
  json.set("dynamic", spec.dynamic);
  json.set("symmetric", spec.symmetric);
  return json;
}

Json to_json(const Rule& rule) {
  const LayerSpec& spec = rule.spec;
  Json json = Json::object({{"pattern", rule.pattern}, {"kind", kind_name(rule.kind)}});
  if (spec.attention) {
    Json attention = Json::object({{"qk", to_json(spec.attention->qk, false)},
                                   {"v", to_json(spec.attention->v, false)},
                                   {"center_keys", spec.attention->center_keys}});
    if (spec.attention->only_self) attention.set("only_self", true);
    if (spec.attention->min_tokens > 0) attention.set("min_tokens", spec.attention->min_tokens);
    json.set("attention", std::move(attention));
  }
  json.set("weight", spec.weight ? to_json(*spec.weight, true) : Json());
  json.set("activation", spec.activation ? to_json(*spec.activation, false) : Json());
  if (spec.smooth) json.set("smooth_alpha", spec.alpha);
  if (spec.margin != 1) json.set("range_margin", spec.margin);
  if (spec.min_sqnr) json.set("static_min_sqnr", *spec.min_sqnr);
  if (spec.input_amax) json.set("input_amax", *spec.input_amax);
  if (spec.input_low) json.set("input_low", *spec.input_low);
  if (spec.input_high) json.set("input_high", *spec.input_high);
  if (!rule.why.empty()) json.set("why", rule.why);
  return json;
}

void check_members(const JsonView& view, std::initializer_list<std::string_view> known) {
  for (const auto& [name, value] : view.members()) {
    if (std::ranges::find(known, name) != known.end()) continue;
    value.fail("is not known in a recipe" + did_you_mean(name, {known.begin(), known.size()}));
  }
}

QuantSpec parse_spec(const JsonView& view, bool is_weight) {
  check_members(view, {"dtype", "bits", "granularity", "dynamic", "symmetric"});
  QuantSpec spec;
  const std::string& dtype = view.at("dtype").string();
  if (dtype != "i8" && dtype != "f8e4m3") view.at("dtype").fail("wanted \"i8\" or \"f8e4m3\"");
  spec.dtype = parse_dtype(dtype);
  spec.bits = view.integer_or("bits", 8);
  const bool width_ok = spec.dtype == DType::kF8E4M3
                            ? spec.bits == 8
                            : spec.bits == 2 || spec.bits == 4 || spec.bits == 8;
  if (!width_ok) view.at("bits").fail("wanted 2, 4 or 8 (f8e4m3: 8)");
  const std::string granularity = view.string_or("granularity", "per_tensor");
  using graph::Granularity;
  if (granularity == "per_tensor") {
    spec.granularity = is_weight ? Granularity::kUniform : Granularity::kPerTensor;
  } else if (is_weight && (granularity == "per_channel" || granularity == "uniform")) {
    spec.granularity = graph::parse_granularity(granularity);
  } else if (!is_weight && granularity == "per_token") {
    spec.granularity = Granularity::kPerToken;
  } else {
    view.at("granularity")
        .fail(is_weight ? "wanted \"per_tensor\" or \"per_channel\""
                        : "wanted \"per_tensor\" or \"per_token\"");
  }
  spec.dynamic = view.boolean_or("dynamic", false);
  spec.symmetric = view.boolean_or("symmetric", true);
  if (!is_weight && spec.granularity == Granularity::kPerToken && !spec.dynamic) {
    view.at("granularity").fail("scales per token are dynamic");
  }
  if (!spec.symmetric && (is_weight || spec.dynamic || spec.dtype == DType::kF8E4M3)) {
    view.at("symmetric").fail("only static integer activations have a zero point");
  }
  return spec;
}

std::optional<float> parse_bound(const JsonView& view, std::string_view key) {
  if (!view.has(key)) return std::nullopt;
  const double value = view.at(key).number();
  if (std::fabs(value) > 1e30) view.at(key).fail("wanted a value below 1e30");
  return static_cast<float>(value);
}

LayerKind parse_kind(const JsonView& view) {
  const std::string text = view.string_or("kind", "any");
  for (const auto& [kind, name] : kKinds) {
    if (name == text) return kind;
  }
  view.at("kind").fail("wanted \"any\", \"linear\", \"conv2d\" or \"attention\"");
}

AttentionSpec parse_attention(const JsonView& view) {
  check_members(view, {"qk", "v", "center_keys", "only_self", "min_tokens"});
  AttentionSpec spec{.qk = parse_spec(view.at("qk"), false), .v = parse_spec(view.at("v"), false)};
  if (spec.qk.bits != 8 || !spec.qk.symmetric) view.at("qk").fail("wanted 8 bits, symmetric");
  if (spec.v.dtype != DType::kF8E4M3 || spec.v.granularity != graph::Granularity::kPerTensor) {
    view.at("v").fail("wanted \"f8e4m3\", \"per_tensor\"");
  }
  spec.center_keys = view.boolean_or("center_keys", false);
  if (spec.center_keys && !spec.qk.dynamic) {
    view.at("center_keys").fail("wants dynamic q and k: the record holds keys as they come");
  }
  spec.only_self = view.boolean_or("only_self", false);
  spec.min_tokens = view.integer_or("min_tokens", 0, 0);
  return spec;
}

// Only linears have scales per token to fall back on, and only integers round to equal steps.
double parse_min_sqnr(const JsonView& view, const Rule& rule) {
  const JsonView field = view.at("static_min_sqnr");
  const auto& input = rule.spec.activation;
  if (rule.kind != LayerKind::kLinear || !input || input->dynamic || !input->symmetric ||
      input->dtype != DType::kI8) {
    field.fail("wanted in a rule of kind \"linear\" with a static, symmetric i8 activation");
  }
  const double value = field.number();
  if (!(value >= 0 && value <= 100)) field.fail("wanted 0 to 100 dB");
  return value;
}

Rule parse_rule(const JsonView& view) {
  check_members(
      view, {"pattern", "kind", "attention", "weight", "activation", "smooth_alpha", "range_margin",
             "static_min_sqnr", "input_amax", "input_low", "input_high", "why"});
  Rule rule;
  rule.pattern = view.at("pattern").string();
  rule.kind = parse_kind(view);
  LayerSpec& spec = rule.spec;
  if (view.has("attention")) {
    spec.attention = parse_attention(view.at("attention"));
    if (rule.kind != LayerKind::kAttention || view.has("weight") || view.has("activation")) {
      view.at("attention").fail("wanted in a rule of kind \"attention\", without weight");
    }
  } else if (rule.kind == LayerKind::kAttention && (view.has("weight") || view.has("activation"))) {
    view.at("kind").fail("an attention has no weight; give \"attention\"");
  }
  if (view.has("weight")) spec.weight = parse_spec(view.at("weight"), true);
  if (view.has("activation")) spec.activation = parse_spec(view.at("activation"), false);
  if (spec.activation && !spec.weight) view.at("activation").fail("needs a quantized weight");
  if (spec.activation && spec.activation->dtype != spec.weight->dtype) {
    view.at("activation").fail("wanted the weight's dtype");
  }
  spec.smooth = view.has("smooth_alpha");
  if (spec.smooth) {
    spec.alpha = view.at("smooth_alpha").number();
    if (spec.alpha < 0 || spec.alpha > 1) view.at("smooth_alpha").fail("wanted 0 to 1");
  }
  spec.margin = view.number_or("range_margin", 1);
  if (!(spec.margin >= 0.1 && spec.margin <= 10)) view.at("range_margin").fail("wanted 0.1 to 10");
  if (view.has("static_min_sqnr")) spec.min_sqnr = parse_min_sqnr(view, rule);
  spec.input_amax = parse_bound(view, "input_amax");
  spec.input_low = parse_bound(view, "input_low");
  spec.input_high = parse_bound(view, "input_high");
  if (spec.input_amax && *spec.input_amax < 0) view.at("input_amax").fail("is negative");
  if (spec.input_low.has_value() != spec.input_high.has_value() ||
      (spec.input_low && *spec.input_low > *spec.input_high)) {
    view.fail("input_low and input_high go together, low first");
  }
  rule.why = view.string_or("why", "");
  return rule;
}

}  // namespace

std::string to_json(const Recipe& recipe) {
  const auto number = [](const std::optional<double>& value) {
    return value ? Json(*value) : Json();
  };
  Json rules = Json(Json::Array{});
  for (const Rule& rule : recipe.rules) rules.push(to_json(rule));
  Json json = Json::object({{"halftone_recipe", kVersion},
                            {"scheme", recipe.scheme},
                            {"level", number(recipe.level)},
                            {"alpha", number(recipe.alpha)},
                            {"collect_method", method_name(recipe.collect)},
                            {"percentile", recipe.collect.percentile},
                            {"calib_compat", to_string(recipe.collect.compat)}});
  if (recipe.split_shortcut) json.set("split_shortcut", true);
  if (recipe.bos_aware) json.set("bos_aware", true);
  json.set("rules", std::move(rules));
  return to_text(json, 1) + "\n";
}

Recipe parse_recipe(std::string_view text, std::string_view where) {
  const Json json = parse_json(text, where);
  const JsonView view(json, std::string(where));
  check_members(view, {"halftone_recipe", "scheme", "level", "alpha", "collect_method",
                       "percentile", "calib_compat", "split_shortcut", "bos_aware", "rules"});
  if (view.at("halftone_recipe").integer() != kVersion) {
    view.at("halftone_recipe").fail(fmt::format("this program reads version {}", kVersion));
  }
  Recipe recipe;
  recipe.scheme = view.at("scheme").string();
  const auto odd = [](char c) {
    return !((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.');
  };
  if (recipe.scheme.empty() || recipe.scheme.size() > 64 ||
      std::ranges::any_of(recipe.scheme, odd)) {
    view.at("scheme").fail("wanted a name of a-z, 0-9, '_', '-' and '.'");
  }
  if (view.has("level")) recipe.level = view.at("level").number();
  if (view.has("alpha")) recipe.alpha = view.at("alpha").number();
  const auto checked = [&](const char* key, auto parse) {
    try {
      return parse();
    } catch (const Error& error) {
      view.at(key).fail(error.what());
    }
  };
  if (view.has("collect_method")) {
    recipe.collect.method = checked("collect_method", [&] {
      return parse_method(view.at("collect_method").string(), recipe.collect.histogram_percentile);
    });
  }
  if (view.has("calib_compat")) {
    recipe.collect.compat =
        checked("calib_compat", [&] { return parse_compat(view.at("calib_compat").string()); });
  }
  recipe.collect.percentile = view.number_or("percentile", 1.0);
  if (recipe.collect.percentile <= 0 || recipe.collect.percentile > 1) {
    view.at("percentile").fail("wanted a share of steps, above 0 and at most 1");
  }
  recipe.split_shortcut = view.boolean_or("split_shortcut", false);
  recipe.bos_aware = view.boolean_or("bos_aware", false);
  const std::vector<JsonView> rules = view.at("rules").items();
  if (rules.size() > kMaxRules) view.at("rules").fail("wanted at most 20000 rules");
  size_t num_states = 0;
  for (const JsonView& rule : rules) {
    recipe.rules.push_back(parse_rule(rule));
    try {
      num_states += Pattern(recipe.rules.back().pattern).num_states();
    } catch (const Error& error) {
      rule.at("pattern").fail(error.what());
    }
    if (num_states > kMaxStates) rule.at("pattern").fail("all patterns together are too large");
  }
  return recipe;
}

Recipe load_recipe(const std::filesystem::path& path) {
  return parse_recipe(read_text_file(path), path.string());
}

std::string Recipe::hash() const { return to_hex(sha256(to_json(*this))); }

bool Recipe::needs_record() const {
  return std::ranges::any_of(rules, [](const Rule& rule) {
    const LayerSpec& spec = rule.spec;
    if (spec.attention && !(spec.attention->qk.dynamic && spec.attention->v.dynamic)) return true;
    return spec.smooth || spec.min_sqnr || spec.needs_range();
  });
}

bool Recipe::has_attention() const {
  return std::ranges::any_of(rules,
                             [](const Rule& rule) { return rule.spec.attention.has_value(); });
}

std::string readable_name(const Recipe& recipe, const CalibrationRecord* record) {
  std::string name = recipe.scheme;
  if (recipe.level) name += fmt::format(".l{}", *recipe.level);
  if (record != nullptr && recipe.needs_record()) {
    const std::string batch = record->entry("batch");
    if (!batch.empty()) name += fmt::format(".bs{}", batch);
    name += fmt::format(".s{}.c{}.p{:.1f}", record->num_steps, record->samples,
                        recipe.collect.percentile);
  }
  if (recipe.alpha) name += fmt::format(".a{}", *recipe.alpha);
  for (const Rule& rule : recipe.rules) {
    if (!rule.spec.attention) continue;
    const bool is_integer = rule.spec.attention->qk.dtype == DType::kI8;
    name += is_integer ? ".attention_int8_fp8" : ".attention_fp8";
    if (rule.spec.attention->only_self) name += "_self";
    if (rule.spec.attention->min_tokens > 0) {
      name += fmt::format("{}", rule.spec.attention->min_tokens);
    }
    return name;
  }
  return name;
}

RuleMatcher::RuleMatcher(const Recipe& recipe) : recipe_(recipe) {
  patterns_.reserve(recipe.rules.size());
  for (const Rule& rule : recipe.rules) patterns_.emplace_back(rule.pattern);
}

RuleMatcher::Choice RuleMatcher::choose(std::string_view layer, LayerKind kind) const {
  const std::string_view shortcut = shortcut_of(layer);
  for (size_t i = recipe_.rules.size(); i-- > 0;) {
    const Rule& rule = recipe_.rules[i];
    if (rule.kind != LayerKind::kAny && rule.kind != kind) continue;
    if (patterns_[i].search(layer) || (!shortcut.empty() && patterns_[i].search(shortcut))) {
      return {rule.spec, rule.why};
    }
  }
  return {{}, "no rule"};
}

}  // namespace halftone::quant
