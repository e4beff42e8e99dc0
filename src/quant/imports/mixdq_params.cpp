#include "quant/imports/mixdq_params.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include <fmt/format.h>

#include "halftone/error.h"

#include "base/file.h"
#include "io/torch_file.h"
#include "quant/split.h"

namespace halftone::quant {
namespace {

namespace fs = std::filesystem;

using io::PickleValue;

constexpr std::string_view kPrefix = "model.";
constexpr float kSmallestNormalF16 = 6.104e-5F;

// "conv_in.act_quantizer_0" -> layer "conv_in_0", of an input.
struct Key {
  std::string layer;
  bool is_input = false;
};

std::optional<Key> parse_key(std::string_view key) {
  if (key.starts_with(kPrefix)) key.remove_prefix(kPrefix.size());
  for (const bool is_input : {false, true}) {
    const std::string_view word = is_input ? ".act_quantizer" : ".weight_quantizer";
    const size_t at = key.rfind(word);
    if (at == std::string_view::npos || at == 0) continue;
    const std::string_view rest = key.substr(at + word.size());
    if (rest.empty() || rest == "_0") {
      return Key{std::string(key.substr(0, at)).append(rest), is_input};
    }
  }
  return std::nullopt;
}

class Reader {
 public:
  explicit Reader(const fs::path& path) : file_(path), where_(path.string()) {
    params_.warnings = file_.pickle().warnings;
  }

  MixdqParams run() {
    const PickleValue& root = file_.root();
    if (root.kind != PickleValue::Kind::kDict) fail("", "is no dict");
    size_t skipped = 0;
    for (size_t i = 0; i + 1 < root.items.size(); i += 2) {
      const PickleValue& key = file_.pickle().at(root.items[i]);
      if (key.kind != PickleValue::Kind::kString) fail("", "has a key that is no string");
      const std::optional<Key> wanted = parse_key(key.text);
      if (wanted) {
        add(key.text, *wanted, file_.pickle().at(root.items[i + 1]));
      } else {
        ++skipped;
      }
    }
    if (params_.weights.empty() && params_.inputs.empty()) {
      fail("", "has no key '<layer>.weight_quantizer' or '<layer>.act_quantizer'");
    }
    if (skipped > 0) {
      params_.warnings.push_back(fmt::format("{}: {} other entries are skipped", where_, skipped));
    }
    if (small_ > 0) {
      params_.warnings.push_back(
          fmt::format("{}: {} scales are below 6.1e-5, where fp16 loses bits; ckpt.pth holds them "
                      "exactly",
                      where_, small_));
    }
    return std::move(params_);
  }

 private:
  [[noreturn]] void fail(std::string_view key, std::string_view what) const {
    const std::string at = key.empty() ? std::string() : fmt::format("'{}' ", key);
    throw Error(Errc::kCorruptFile, fmt::format("{}: {}{}", where_, at, what));
  }

  void add(const std::string& name, const Key& key, const PickleValue& value) {
    const PickleValue& buffers = dict_of(name, value);
    const std::vector<float> deltas = list(name, buffers, "delta_list");
    const std::vector<float> zeros = list(name, buffers, "zero_point_list");
    for (const float delta : deltas) {
      if (!(delta > 0) || !std::isfinite(delta)) fail(name, "has a scale that is not positive");
    }
    if (key.is_input) {
      add_input(name, key.layer, deltas, zeros);
    } else {
      add_weight(name, key.layer, deltas, zeros);
    }
  }

  const PickleValue& dict_of(const std::string& name, const PickleValue& value) const {
    const PickleValue* dict = &value;
    if (value.kind == PickleValue::Kind::kList && !value.items.empty()) {
      dict = &file_.pickle().at(value.items.front());
    }
    if (dict->kind != PickleValue::Kind::kDict) fail(name, "is no dict and no list with one");
    return *dict;
  }

  // The elements of [3, n, 1, ...].
  std::vector<float> list(const std::string& name, const PickleValue& dict, std::string_view what) {
    const PickleValue* value = file_.pickle().find(dict, what);
    if (value == nullptr) fail(name, fmt::format("has no {}", what));
    const io::TorchTensor& tensor = file_.tensor(*value, fmt::format("{}/{}", name, what));
    const bool fits =
        !tensor.shape.empty() && tensor.shape[0] == 3 &&
        std::all_of(tensor.shape.begin() + std::min<std::ptrdiff_t>(2, std::ssize(tensor.shape)),
                    tensor.shape.end(), [](int64_t size) { return size == 1; });
    if (!fits || tensor.num_elements() == 0) {
      fail(name, fmt::format("{} has extents {}, wanted [3, channels, 1, ...]", what,
                             to_string(Shape(tensor.shape))));
    }
    const Tensor read = file_.read(tensor);
    const auto values = read.values<float>();
    const bool is_scale = what == "delta_list";
    if (is_scale && tensor.type == io::TorchType::kHalf) {
      small_ += static_cast<size_t>(
          std::ranges::count_if(values, [](float v) { return v < kSmallestNormalF16; }));
    }
    return {values.begin(), values.end()};
  }

  void add_input(const std::string& name, const std::string& layer,
                 const std::vector<float>& deltas, const std::vector<float>& zeros) {
    if (deltas.size() != 3 || zeros.size() != 3)
      fail(name, "wants one scale and zero point a width");
    MixdqInput input;
    for (size_t i = 0; i < 3; ++i) {
      const auto highest = static_cast<float>((int64_t{1} << kMixdqWidths[i]) - 1);
      if (!(zeros[i] >= 0 && zeros[i] <= highest)) {
        fail(name, fmt::format("zero point {} at {} bits, wanted 0 to {}", zeros[i],
                               kMixdqWidths[i], highest));
      }
      input.delta[i] = deltas[i];
      input.zero[i] = zeros[i];
    }
    if (!params_.inputs.emplace(layer, input).second) fail(name, "comes twice");
  }

  void add_weight(const std::string& name, const std::string& layer,
                  const std::vector<float>& deltas, const std::vector<float>& zeros) {
    if (std::ranges::any_of(zeros, [](float zero) { return zero != 0; })) {
      fail(name, "has weights with zero points");
    }
    const size_t channels = deltas.size() / 3;
    std::array<std::vector<float>, 3> widths;
    for (size_t i = 0; i < 3; ++i) {
      const auto begin = deltas.begin() + static_cast<std::ptrdiff_t>(i * channels);
      widths[i].assign(begin, begin + static_cast<std::ptrdiff_t>(channels));
    }
    if (!params_.weights.emplace(layer, std::move(widths)).second) fail(name, "comes twice");
  }

  io::TorchFile file_;
  std::string where_;
  size_t small_ = 0;
  MixdqParams params_;
};

size_t width_index(int64_t bits) {
  const auto found = std::ranges::find(kMixdqWidths, bits);
  check_internal(found != kMixdqWidths.end(), "a width of MixDQ's");
  return static_cast<size_t>(found - kMixdqWidths.begin());
}

struct Bounds {
  float low, high;
};

Bounds bounds_of(const MixdqInput& input, int64_t bits) {
  const size_t width = width_index(bits);
  const auto highest = static_cast<float>((int64_t{1} << bits) - 1);
  return {-input.zero[width] * input.delta[width],
          (highest - input.zero[width]) * input.delta[width]};
}

std::string without_prefix(std::string_view name) {
  if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
  return std::string(name);
}

}  // namespace

MixdqParams read_mixdq_params(const fs::path& path) { return Reader(path).run(); }

Recipe with_mixdq_ranges(Recipe recipe, const BitTable& inputs, const MixdqParams& params) {
  for (const auto& [name, bits] : inputs) {
    const auto found = params.inputs.find(name);
    if (found == params.inputs.end()) {
      throw Error(
          Errc::kInvalidArgument,
          fmt::format("--quant-params: has no '{}.act_quantizer', which --act-bits gives {} "
                      "bits",
                      name, bits));
    }
    const auto rule = std::ranges::find(recipe.rules, exact_pattern(name), &Rule::pattern);
    if (rule == recipe.rules.end()) continue;
    Bounds bounds = bounds_of(found->second, bits);
    std::optional<Rule> second;
    if (const auto half = params.inputs.find(second_half(name)); half != params.inputs.end()) {
      const Bounds other = bounds_of(half->second, bits);
      if (recipe.split_shortcut) {
        second = *rule;
        second->pattern = exact_pattern(second_half(name));
        second->spec.input_low = other.low;
        second->spec.input_high = other.high;
      } else {
        bounds = {std::min(bounds.low, other.low), std::max(bounds.high, other.high)};
      }
    }
    rule->spec.input_low = bounds.low;
    rule->spec.input_high = bounds.high;
    if (second) recipe.rules.insert(std::next(rule), std::move(*second));
  }
  return recipe;
}

std::vector<std::string> read_layer_list(const fs::path& path) {
  std::vector<std::string> names;
  std::array<std::byte, 2> magic{};
  if (const File file(path); file.size() >= magic.size()) file.read(0, magic);
  if (magic[0] == std::byte{'P'} && magic[1] == std::byte{'K'}) {
    const io::TorchFile file(path);
    const PickleValue& root = file.root();
    if (root.kind != PickleValue::Kind::kList) {
      throw Error(Errc::kCorruptFile, fmt::format("{}: is no list of layers", path.string()));
    }
    for (const uint32_t item : root.items) {
      const PickleValue& name = file.pickle().at(item);
      if (name.kind != PickleValue::Kind::kString) {
        throw Error(Errc::kCorruptFile,
                    fmt::format("{}: holds something else than names", path.string()));
      }
      names.push_back(without_prefix(name.text));
    }
    return names;
  }
  const std::string text = read_text_file(path);
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    std::erase_if(line, [](char c) { return c == ' ' || c == '\t' || c == '\r'; });
    if (!line.empty() && line.front() != '#') names.push_back(without_prefix(line));
  }
  return names;
}

}  // namespace halftone::quant
