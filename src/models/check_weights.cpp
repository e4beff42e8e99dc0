#include "models/check_weights.h"

#include <algorithm>
#include <array>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "halftone/error.h"

#include "base/text.h"
#include "models/registry.h"

namespace halftone::models {
namespace {

constexpr size_t kMaxListed = 20;
// Buffers that older writers stored beside the weights.
constexpr std::array<std::string_view, 2> kSurplus{"text_model.embeddings.position_ids",
                                                   "logit_scale"};

// What can be built of a component of the checkpoint.
std::vector<std::string> parts_of(std::string_view component) {
  if (component == "vae") return {"vae_decoder", "vae_encoder"};
  if (component == "clip") return {"clip_text", "clip_vision"};
  return {std::string(component)};
}

// Shapes of the tensors that the component's graphs read, by name in the weight source.
std::map<std::string, Shape> wanted_tensors(std::string_view component, std::string_view class_name,
                                            const JsonView& config) {
  const BuildShape any{.batch = 1, .height = 8, .width = 8, .text_tokens = 1};
  std::map<std::string, Shape> wanted;
  for (const std::string& part : parts_of(component)) {
    const graph::Graph graph = build(part, class_name, config, any, {});
    for (const graph::Value& value : graph.values()) {
      if (value.constant && !value.constant->weight.empty()) {
        wanted.emplace(value.constant->weight, value.type.shape);
      }
    }
  }
  return wanted;
}

}  // namespace

void check_weights(std::string_view component, std::string_view class_name, const JsonView& config,
                   const WeightSource& weights, const std::vector<std::string>& stored_names) {
  const std::map<std::string, Shape> wanted = wanted_tensors(component, class_name, config);
  std::vector<std::string> problems;
  for (const auto& [name, shape] : wanted) {
    if (!weights.contains(name)) {
      problems.push_back(fmt::format("{} is missing, wanted {}", name, to_string(shape)));
      continue;
    }
    const TensorType stored = weights.type(name);
    if (stored.shape != shape || !is_floating(stored.dtype)) {
      problems.push_back(fmt::format("{} is {}, wanted floating-point {}", name, to_string(stored),
                                     to_string(shape)));
    }
  }
  for (const std::string& name : stored_names) {
    const std::string full = fmt::format("{}/{}", component, name);
    if (wanted.contains(full) || std::ranges::find(kSurplus, name) != kSurplus.end()) continue;
    problems.push_back(fmt::format("{} is not expected", printable(full)));
  }
  if (problems.empty()) return;
  const size_t num_problems = problems.size();
  problems.resize(std::min(num_problems, kMaxListed));
  throw Error(
      Errc::kCorruptFile,
      fmt::format("{}: {} tensors of '{}' do not fit the config: {}{}", config.file(), num_problems,
                  component, fmt::join(problems, "; "), num_problems > kMaxListed ? "; ..." : ""));
}

}  // namespace halftone::models
