// The recipe: which layers are quantized how. Ordered rules, later wins; a JSON file.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "graph/ops/op.h"
#include "quant/observer.h"
#include "quant/pattern.h"
#include "tensor/dtype.h"

namespace halftone::quant {

struct QuantSpec {
  DType dtype = DType::kI8;  // i8 or f8e4m3
  int64_t bits = 8;          // integers: 2, 4 or 8 (less than 8: packed weights)
  graph::Granularity granularity = graph::Granularity::kPerTensor;
  bool dynamic = false;   // activations: scale computed from each call
  bool symmetric = true;  // activations: false = with a zero point (MixDQ)
  bool operator==(const QuantSpec&) const = default;
};

// An attention in 8 bits: q and k by one spec, v (f8e4m3, per tensor) by another, probabilities as
// f8e4m3. per_token of q and k: a scale for each head's part of a token.
struct AttentionSpec {
  QuantSpec qk, v;
  bool center_keys = false;  // k without its mean over the tokens; q and k dynamic
  bool only_self = false;    // attentions to a text stay as they are (is_self_attention)
  int64_t min_tokens = 0;    // attentions of fewer queries or fewer keys stay as they are
  bool operator==(const AttentionSpec&) const = default;
};

// What becomes of a layer. Nothing in `weight`: the layer stays as it is; nothing in `activation`:
// weight-only.
struct LayerSpec {
  std::optional<QuantSpec> weight, activation;
  bool smooth = false;  // SmoothQuant on this layer's input
  double alpha = 0.8;
  double margin = 1;  // a static scale covers so many times what the record holds
  // Linears with a static i8 input: the decibels that the record must predict for its codes
  // (quant::predicted_sqnr); with fewer the input gets a scale a token, and no smoothing.
  std::optional<double> min_sqnr;
  // Overrides the record (imports): largest magnitude of the input.
  std::optional<float> input_amax;
  std::optional<float> input_low, input_high;  // asymmetric
  // Of a rule for attentions, which has nothing else.
  std::optional<AttentionSpec> attention;

  // Whether the input has a static scale that the calibration record must give.
  [[nodiscard]] bool needs_range() const {
    return activation && !activation->dynamic && !input_amax && !input_low;
  }
  bool operator==(const LayerSpec&) const = default;
};

enum class LayerKind : uint8_t { kAny, kLinear, kConv, kAttention };

struct Rule {
  std::string pattern;  // regular expression, searched in the layer's name
  LayerKind kind = LayerKind::kAny;
  LayerSpec spec;
  std::string why;            // for reports: "level 2.5", "policy trt10: conv_in"
  bool is_asked_for = false;  // the pattern is the user's own; not kept in files
};

struct Recipe {
  std::string scheme;  // "int8", "fp8", "mixdq", ...
  // What was asked for; the rules carry it out. Shown in plan names.
  std::optional<double> level, alpha;
  Collect collect;
  bool split_shortcut = false;  // shortcuts of joined inputs in two halves (quant/split.h)
  // Text that a layer with a static scale reads is quantized but for its first token, whose
  // outliers, the same for every prompt, would set the scale of all; else such a layer has its
  // weights quantized only.
  bool bos_aware = false;
  // The user himself gave these, so that he is told when no layer takes them; not kept in files.
  bool asks_split_shortcut = false, asks_bos_aware = false;
  std::vector<Rule> rules;

  [[nodiscard]] std::string hash() const;  // 64 hex digits over the JSON text
  // Whether any activation has a static scale, so that a calibration record is needed.
  [[nodiscard]] bool needs_record() const;
  // Whether any rule is for attentions.
  [[nodiscard]] bool has_attention() const;
};

// The spec of a layer: that of the last rule that matches, or an empty one. `why` of that rule.
// The second half of a split shortcut answers to the whole's name too.
class RuleMatcher {
 public:
  explicit RuleMatcher(const Recipe& recipe);
  struct Choice {
    LayerSpec spec;
    std::string why;
  };
  [[nodiscard]] Choice choose(std::string_view layer, LayerKind kind) const;

 private:
  const Recipe& recipe_;
  std::vector<Pattern> patterns_;
};

// "int8.l2.5.bs1.s20.c32.p1.0.a0.8": scheme, level, then of the record batch, steps and prompts,
// percentile, alpha, ".attention_fp8", ".attention_fp8_self", ".attention_fp8_self2048" (tokens) or
// ".attention_int8_fp8"; what does not apply is left out.
[[nodiscard]] std::string readable_name(const Recipe& recipe, const CalibrationRecord* record);

[[nodiscard]] std::string to_json(const Recipe& recipe);
// Throws kInvalidArgument (from the command line) or kCorruptFile naming file and key.
[[nodiscard]] Recipe parse_recipe(std::string_view text, std::string_view where);
[[nodiscard]] Recipe load_recipe(const std::filesystem::path& path);

}  // namespace halftone::quant
