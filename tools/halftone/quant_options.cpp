#include "quant_options.h"

#include <string_view>

#include <fmt/format.h>

#include "common.h"
#include "foreign.h"

namespace halftone::cli {
namespace {

constexpr const char* kGroup = "Quantization";
constexpr std::string_view kExample = R"({"quant_type": "fp8_e4m3_e4m3_dynamic"})";

// OneDiff's {"quant_type": "NAME"}; the only member it has.
std::string quant_type_of(const std::string& json) {
  std::string name;
  for (const auto& [key, value] : read_flat_json(json, "--quantize-config", kExample)) {
    if (key != "quant_type") {
      throw UsageError(fmt::format("--quantize-config: unknown key '{}', wanted quant_type", key));
    }
    name = value;
  }
  if (!name.empty()) return name;
  throw UsageError(fmt::format("--quantize-config: got '{}', wanted {}", json, kExample));
}

std::string scheme_of(const QuantArgs& a) {
  if (a.config.empty()) return a.scheme;
  std::string name = quant_type_of(a.config);
  if (a.scheme.empty() || a.scheme == name) return name;
  throw UsageError(fmt::format(
      "--quant-type {} and --quantize-config's {} both name the scheme; give one", a.scheme, name));
}

// --NAME and --no-NAME, at most one of which may be given.
void add_switch(CLI::App& app, const std::string& name, bool& on, bool& off,
                const std::string& what, const std::string& otherwise) {
  CLI::Option* given = app.add_flag("--" + name, on, what)->group(kGroup);
  app.add_flag("--no-" + name, off, otherwise)->excludes(given)->group(kGroup);
}

// Which layers, and what of them is quantized by itself.
void add_layer_options(CLI::App& app, QuantArgs& a) {
  add_switch(app, "split-shortcut", a.split_shortcut, a.no_split_shortcut,
             "Scales of their own for the two halves of a UNet's shortcuts over joined values "
             "(default for MixDQ's files)",
             "One scale for both (else the default)");
  add_switch(app, "bos-aware", a.bos_aware, a.no_bos_aware,
             "Text inputs with static scales are quantized but for their first token (default for "
             "MixDQ's files)",
             "Text inputs stay (else the default)");
  app.add_option("--policy", a.policy,
                 "Layers that stay: default, trt10, nemo, mlperf, thestage or none")
      ->group(kGroup);
  app.add_option("--exclude", a.exclude, "Pattern of layers that stay; repeatable")->group(kGroup);
  app.add_option("--include", a.include, "Pattern of layers that do not; repeatable")
      ->group(kGroup);
}

}  // namespace

void add_quant_options(CLI::App& app, QuantArgs& a) {
  app.add_option("--recipe", a.recipe, "Recipe (JSON) of 'halftone quantize'")->group(kGroup);
  app.add_option("--ranges", a.ranges, "Calibration record; default: the cache's for this model")
      ->group(kGroup);
  app.add_option("--quant-type,--scheme", a.scheme,
                 "int8, fp8, fp8_static, int8_dynamic, int8_weightonly, int4_weightonly, "
                 "fp8_e4m3_e4m3_dynamic[_per_tensor]")
      ->group(kGroup);
  app.add_option("--quantize-config", a.config, "OneDiff's {\"quant_type\": \"NAME\"}")
      ->group(kGroup);
  app.add_option("--quantization-level,--quant-level", a.level,
                 "1 convolutions, 2 + feed-forward, 2.5 + q, k, v, 3 + all linears (default 3; "
                 "2.5 for int8 with --calib-compat), 4 + attention (fp8); 0 = default")
      ->group(kGroup);
  app.add_option("--quant-algo", a.algo,
                 "max, or smoothquant (default with --alpha or --activations static)")
      ->check(CLI::IsMember({"max", "smoothquant"}))
      ->group(kGroup);
  app.add_option("--alpha,--quantization-alpha", a.alphas,
                 "SmoothQuant's alpha (default 0.8), or PATTERN=ALPHA; repeatable")
      ->group(kGroup);
  app.add_option("--activations", a.activations,
                 "Inputs of linears: per-token (dynamic), static, or per-token but static where "
                 "attention (static-attention), GEGLU (static-ff) or both (static-producers) then "
                 "write codes; auto = both, as far as --static-min-sqnr allows")
      ->check(CLI::IsMember(
          {"per-token", "auto", "static", "static-attention", "static-ff", "static-producers"}))
      ->group(kGroup);
  app.add_option("--static-min-sqnr", a.static_min_sqnr,
                 "int8: dB that the record must predict for such a scale, else the layer stays "
                 "per-token (auto: 30.5; static-...: all are static)")
      ->group(kGroup);
  app.add_option(
         "--attention", a.attention,
         "8-bit attention: fp8, fp8-self (of the image with itself only), fp8-long (fp8-self, but "
         "only from 2048 tokens on), int8-fp8 (q and k int8, the rest fp8) or none; default: "
         "fp8 at level 4 of an fp8 scheme")
      ->check(CLI::IsMember({"none", "fp8", "fp8-self", "fp8-long", "int8-fp8"}))
      ->group(kGroup);
  add_layer_options(app, a);
  app.add_option("--collect-method", a.method,
                 "min-mean (int8's default), max (fp8's), min-max, mean-max, global_min, hist:P or "
                 "mse")
      ->group(kGroup);
  app.add_option("--percentile,--quantization-percentile", a.percentile,
                 "Share of the denoising steps whose maxima count (default 1.0)")
      ->group(kGroup);
  app.add_option("--calib-compat", a.compat, "none, trt9, trt10, nemo or mixdq")->group(kGroup);
  app.add_option("--calib-size,--calibration-size", a.calib_size,
                 "Prompts of the model's calibration record, made or extended when it holds fewer "
                 "(32 when there is none)")
      ->check(CLI::Range(1, 100'000))
      ->group(kGroup);
  app.add_flag("--simulate", a.simulate, "Keep Quantize/Dequantize apart: exact simulation, slow")
      ->group(kGroup);
}

namespace {

// A recipe says all of it, but for what a quantized decoder, which has a scheme of its own, reads.
void refuse_beside_recipe(const QuantizationOptions& options, bool quantizes_decoder) {
  for (const GivenOption& given : given_options(options)) {
    if (!given.chooses || (given.decoder_reads && quantizes_decoder)) continue;
    throw UsageError(fmt::format(
        "--recipe {}: says what is quantized, {} would have no effect; give one of them",
        options.recipe, given.flag));
  }
}

double alpha_of(const std::string& text) {
  const double alpha = parse_number(text, "--alpha");
  if (alpha >= 0 && alpha <= 1) return alpha;
  throw UsageError(fmt::format("--alpha: got {}, wanted 0 to 1", text));
}

}  // namespace

QuantizationOptions quantization_options(const QuantArgs& a, bool quantizes_decoder) {
  QuantizationOptions options;
  options.recipe = a.recipe;
  options.ranges = a.ranges;
  options.scheme = scheme_of(a);
  if (!a.level.empty()) {
    const double level = parse_number(a.level, "--quantization-level");
    if (level != 0) options.level = level;
  }
  if (!a.algo.empty()) options.smooth = a.algo == "smoothquant";
  for (const std::string& alpha : a.alphas) {
    const size_t equals = alpha.rfind('=');
    if (equals == std::string::npos) {
      options.alpha = alpha_of(alpha);
    } else {
      options.alphas[alpha.substr(0, equals)] = alpha_of(alpha.substr(equals + 1));
    }
  }
  if (!a.activations.empty()) {
    options.per_token = a.activations != "static";
    options.static_producers = a.activations == "static-attention"   ? "attention"
                               : a.activations == "static-ff"        ? "ff"
                               : a.activations == "static-producers" ? "all"
                               : a.activations == "auto"             ? "auto"
                                                                     : "none";
  }
  if (!a.static_min_sqnr.empty()) {
    if (a.activations != "auto" && !a.activations.starts_with("static-")) {
      throw UsageError("--static-min-sqnr: needs --activations auto or static-...");
    }
    options.static_min_sqnr = parse_number(a.static_min_sqnr, "--static-min-sqnr");
  }
  options.attention = a.attention;
  options.policy = a.policy;
  options.exclude = a.exclude;
  options.include = a.include;
  if (a.split_shortcut || a.no_split_shortcut) options.split_shortcut = a.split_shortcut;
  if (a.bos_aware || a.no_bos_aware) options.bos_aware = a.bos_aware;
  options.collect_method = a.method;
  options.percentile = a.percentile;
  options.calib_compat = a.compat;
  options.simulate = a.simulate;
  options.calib_size = a.calib_size;
  if (!a.recipe.empty()) refuse_beside_recipe(options, quantizes_decoder);
  return options;
}

}  // namespace halftone::cli
