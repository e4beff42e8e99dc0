// Options that say how the denoiser is quantized, for every verb that makes plans.
#pragma once

#include <string>
#include <vector>

#include "halftone/options.h"

#include "args.h"

namespace halftone::cli {

struct QuantArgs {
  std::string recipe, ranges, scheme, config, algo, policy = "default", method, compat = "none";
  std::string level;
  std::vector<std::string> alphas, exclude, include;
  double percentile = 1.0;
  std::string activations, static_min_sqnr, attention;
  bool split_shortcut = false, no_split_shortcut = false;
  bool bos_aware = false, no_bos_aware = false;
  bool simulate = false;
  int calib_size = 0;
};

void add_quant_options(CLI::App& app, QuantArgs& args);
// `quantizes_decoder`: the VAE decoder is quantized, too. Throws UsageError.
[[nodiscard]] QuantizationOptions quantization_options(const QuantArgs& args,
                                                       bool quantizes_decoder);

}  // namespace halftone::cli
