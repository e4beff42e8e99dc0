#include "quant/imports/mixdq.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "halftone/error.h"

#include "base/json.h"
#include "base/text.h"
#include "quant/schemes/scheme.h"

namespace halftone::quant {
namespace {

constexpr size_t kMaxLayers = 100'000;
constexpr std::string_view kPrefix = "model.";

bool is_name(std::string_view text) {
  const auto odd = [](char c) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    return !letter && c != '.' && c != '_';
  };
  return !text.empty() && text.size() <= 256 && std::ranges::none_of(text, odd);
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.back() == ' ' || text.back() == '\r')) text.remove_suffix(1);
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  return text;
}

}  // namespace

BitTable parse_bit_table(std::string_view text, std::string_view where) {
  BitTable table;
  size_t number = 0;
  const auto fail = [&](std::string_view what) {
    throw Error(Errc::kCorruptFile,
                fmt::format("{}: line {}: {}; wanted 'layer: 2', 4 or 8", where, number, what));
  };
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    line = trimmed(line.substr(0, line.find('#')));
    if (line.empty()) continue;
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) fail("has no ':'");
    std::string_view name = trimmed(line.substr(0, colon));
    const std::string_view bits = trimmed(line.substr(colon + 1));
    if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
    if (!is_name(name)) fail(fmt::format("'{}' is no layer's name", printable(name)));
    if (bits != "2" && bits != "4" && bits != "8")
      fail(fmt::format("got '{}' bits", printable(bits)));
    if (!table.emplace(name, bits[0] - '0').second) fail(fmt::format("'{}' comes twice", name));
    if (table.size() > kMaxLayers) fail("has too many layers");
  }
  if (table.empty()) fail("is empty");
  return table;
}

std::string print_bit_table(const BitTable& table) {
  std::string text;
  for (const auto& [name, bits] : table) text += fmt::format("{}: {}\n", name, bits);
  return text;
}

std::string exact_pattern(std::string_view name) {
  std::string pattern = "^";
  for (const char c : name) {
    if (c == '.') pattern += '\\';
    pattern += c;
  }
  return pattern + '$';
}

Recipe mixdq_recipe(const BitTable& weights, const BitTable& inputs, bool mixdq_ranges) {
  Recipe recipe;
  recipe.scheme = "mixdq";
  recipe.split_shortcut = true;
  recipe.bos_aware = true;
  recipe.collect.method = Collect::Method::kMax;
  if (mixdq_ranges) recipe.collect.compat = Collect::Compat::kMixdq;
  for (const auto& [name, bits] : inputs) {
    if (!weights.contains(name)) {
      throw Error(Errc::kInvalidArgument,
                  fmt::format("activation bits name '{}', which has no weight bits", name));
    }
  }
  for (const auto& [name, bits] : weights) {
    LayerSpec spec;
    spec.weight = channel_weights(DType::kI8, bits);
    std::string why = fmt::format("w{}", bits);
    if (const auto found = inputs.find(name); found != inputs.end()) {
      spec.activation = QuantSpec{.bits = found->second, .symmetric = false};
      why += fmt::format("a{}", found->second);
    }
    recipe.rules.push_back({exact_pattern(name), LayerKind::kAny, spec, std::move(why)});
  }
  return recipe;
}

std::vector<std::string> parse_onediff_layers(std::string_view text, std::string_view where,
                                              double top_percentage) {
  if (!(top_percentage > 0 && top_percentage <= 100)) {
    throw Error(
        Errc::kInvalidArgument,
        fmt::format("--top-percentage: got {}, wanted above 0 and at most 100", top_percentage));
  }
  const Json json = parse_json(text, where);
  const JsonView view(json, std::string(where));
  std::vector<std::pair<double, std::string>> scored;
  for (const auto& [name, value] : view.members()) {
    const double ssim = value.at("ssim").number();
    if (ssim < -1 || ssim > 1) value.at("ssim").fail("wanted -1 to 1");
    scored.emplace_back(ssim, name);
  }
  std::ranges::stable_sort(scored, [](const auto& a, const auto& b) { return a.first > b.first; });
  scored.resize(
      static_cast<size_t>(std::floor(static_cast<double>(scored.size()) * top_percentage / 100.0)));
  std::vector<std::string> layers;
  for (auto& [ssim, name] : scored) layers.push_back(std::move(name));
  return layers;
}

Recipe only_layers(const Recipe& recipe, const std::vector<std::string>& layers) {
  const RuleMatcher matcher(recipe);
  Recipe result = recipe;
  result.rules.clear();
  for (const Rule& rule : recipe.rules) {
    if (rule.kind == LayerKind::kConv || rule.kind == LayerKind::kAttention)
      result.rules.push_back(rule);
  }
  for (const std::string& layer : layers) {
    const RuleMatcher::Choice choice = matcher.choose(layer, LayerKind::kLinear);
    if (!choice.spec.weight) continue;
    result.rules.push_back({exact_pattern(layer), LayerKind::kLinear, choice.spec, "listed"});
  }
  return result;
}

}  // namespace halftone::quant
