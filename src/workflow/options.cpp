#include "halftone/options.h"

#include <utility>

namespace halftone {

std::string_view to_string(Precision precision) {
  switch (precision) {
    case Precision::kAuto:
      return "auto";
    case Precision::kF32:
      return "fp32";
    case Precision::kBF16:
      return "bf16";
    case Precision::kF16:
      return "fp16";
    case Precision::kI8:
      return "int8";
    case Precision::kF8:
      return "fp8";
  }
  return "auto";
}

std::vector<GivenOption> given_options(const QuantizationOptions& o) {
  const QuantizationOptions made;
  const std::pair<bool, GivenOption> all[] = {
      {!o.scheme.empty(), {"--quant-type"}},
      {o.level.has_value(), {"--quantization-level"}},
      {o.smooth.has_value(), {"--quant-algo"}},
      {o.alpha || !o.alphas.empty(), {"--alpha"}},
      {o.per_token || !o.static_producers.empty(), {"--activations"}},
      {o.static_min_sqnr.has_value(), {"--static-min-sqnr"}},
      {!o.attention.empty(), {"--attention"}},
      {o.policy != made.policy, {"--policy", true, true}},
      {!o.exclude.empty(), {"--exclude", true, true}},
      {!o.include.empty(), {"--include", true, true}},
      {o.split_shortcut.has_value(), {"--split-shortcut"}},
      {o.bos_aware.has_value(), {"--bos-aware"}},
      {!o.collect_method.empty(), {"--collect-method", true, true}},
      {o.percentile != made.percentile, {"--percentile", true, true}},
      {o.calib_compat != made.calib_compat, {"--calib-compat", true, true}},
      {!o.ranges.empty(), {"--ranges", false, true}},
      {o.calib_size != made.calib_size, {"--calib-size", false, true}},
      {o.simulate != made.simulate, {"--simulate", false, true}}};
  std::vector<GivenOption> given;
  for (const auto& [is_given, option] : all) {
    if (is_given) given.push_back(option);
  }
  return given;
}

std::string_view to_string(Rng rng) { return rng == Rng::kCpu ? "cpu" : "cuda"; }

}  // namespace halftone
