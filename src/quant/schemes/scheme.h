// Schemes: named ways to write a recipe. One file each, listed in schemes.inc.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "quant/recipe.h"

namespace halftone::quant {

// What a user may choose; a field left alone means the scheme's own default.
struct SchemeOptions {
  std::string scheme = "int8";
  std::optional<double> level;    // 1, 2, 2.5, 3 or 4
  std::optional<double> alpha;    // SmoothQuant; int8
  std::optional<bool> smooth;     // false: plain maximum ("max")
  std::optional<bool> per_token;  // linear inputs: dynamic per token instead of static per tensor
  // Linears per token, but static what a producer can then write as codes: "attention" (what to_out
  // reads), "ff" (what GEGLU makes), "all", "auto" (all that the record allows), "none"; empty =
  // the scheme's.
  std::string static_producers;
  // int8: the decibels that the record must predict for such a scale (LayerSpec::min_sqnr); without
  // it "auto" takes kStaticMinSqnr and the others ask for nothing.
  std::optional<double> static_min_sqnr;
  // (pattern, alpha): other alphas for some layers.
  std::vector<std::pair<std::string, double>> alphas;
  // Attentions in 8 bits: "none", "fp8", "fp8-self" (those of the image with itself), "fp8-long"
  // (fp8-self, but only from 2,048 tokens on), "int8-fp8" (q and k int8, k centered; the rest
  // FP8); empty = by the level: "fp8" at FP8 schemes' level 4.
  std::string attention;
  std::string policy = "default";             // default, trt10, nemo, mlperf, thestage, none
  std::vector<std::string> exclude, include;  // patterns, after the policy; include after exclude
  // Recipe's; schemes leave shortcuts whole and text as one unless told.
  std::optional<bool> split_shortcut, bos_aware;
  std::optional<Collect::Method> method;
  double histogram_percentile = 99.9;
  double percentile = 1.0;
  Collect::Compat compat = Collect::Compat::kNone;
};

// Of "auto". On emoji-xl 40 of 51 inputs keep as much (docs/quantization.md).
inline constexpr double kStaticMinSqnr = 30.5;

struct Scheme {
  std::string_view name;
  std::string_view what;  // one line for humans
  Recipe (*make)(const SchemeOptions& options);
};
[[nodiscard]] std::span<const Scheme* const> schemes();

// The recipe of options.scheme; throws kInvalidArgument listing the schemes, levels or policies.
[[nodiscard]] Recipe make_recipe(const SchemeOptions& options);

// --- for schemes

// Level rules: convolutions from level 1, feed-forward linears from 2, q, k, v from 2.5, all
// linears from 3. Text-to-image UNets and the two streams of MMDiT.
void add_levels(Recipe& recipe, double level, const LayerSpec& linear, const LayerSpec& conv);
// How a linear's input gets a static scale beside others per token.
struct StaticInput {
  std::optional<double> alpha;  // smoothing, which GEGLU's rows and to_v take in
  double margin = 1;
};
// Rules that give what a UNet's to_out.0 and ff.net.2 read one static scale, as far as the level
// quantizes them per token; `by_default` counts when the options leave it open.
void add_static_producers(Recipe& recipe, const SchemeOptions& options, const LayerSpec& linear,
                          std::string_view by_default, const StaticInput& attention,
                          const StaticInput& ff);
// The rule for attentions that the options, or else the scheme's level, ask for. Dynamic: q and k
// with a scale for each head's part of a token (FP8: `per_token`), else static, but for q and k in
// int8, which are always dynamic.
void add_attention(Recipe& recipe, const SchemeOptions& options, bool dynamic,
                   bool per_token = false);
// Then what stays off: the policy's list, the user's exclude, and what include switches on again.
void add_policy(Recipe& recipe, const SchemeOptions& options, const LayerSpec& linear,
                const LayerSpec& conv);
// The options' collect settings over a scheme's default method.
[[nodiscard]] Collect collect_of(const SchemeOptions& options, Collect::Method by_default);

[[nodiscard]] QuantSpec channel_weights(DType dtype, int64_t bits = 8);

}  // namespace halftone::quant
