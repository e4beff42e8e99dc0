// Mixed bit widths: what each layer's width does to the denoiser's result, and the exact choice
// under a budget.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "halftone/options.h"
#include "halftone/quantize.h"

#include "backend/backend.h"
#include "quant/imports/mixdq.h"
#include "quant/recipe.h"
#include "workflow/sensitivity.h"

namespace halftone::workflow {

struct BitSearch {
  quant::Recipe recipe;
  double bits = 0;                 // mean over the weights of the layers that are quantized
  std::optional<double> act_bits;  // mean over the elements of their inputs
  double noise = 0;                // predicted: sum over the layers of their shares
  // Of the weights: the convex hull of noise over bytes and the choice, cheapest first.
  std::vector<FrontPoint> points;
  quant::BitTable weights, inputs;  // as MixDQ's files hold them
};

struct BitTargets {
  double weights = 8;            // mean bits, 2 to 8
  std::optional<double> inputs;  // mean bits, 4 to 8; absent: as the recipe has them
  BitObjective objective = BitObjective::kSqnr;
  std::vector<std::string> protect;  // layers whose inputs stay as they are
  // That the layers are measured with; empty = the model's calibration prompts.
  std::vector<std::string> prompts{};
};

// Weights of 2, 4 or 8 bits, and inputs of 4 or 8, for the layers that `session`'s int8 recipe
// quantizes, with means of the targets +- 0.02: of all such choices the one with the least sum of
// effects (workflow/sensitivity.h, measured or taken up from the cache). Throws kInvalidArgument
// for targets out of range and for protected layers that the recipe does not quantize.
[[nodiscard]] BitSearch search_bits(backend::Device& device, const SessionOptions& session,
                                    const GenerateOptions& generate, const BitTargets& targets);

// The choice alone, from a table with the formats of bit_formats(). `uniform` gives each layer the
// target's width (2, 4 or 8).
[[nodiscard]] std::vector<SensitivityFormat> bit_formats(const quant::Recipe& base,
                                                         bool with_inputs);
[[nodiscard]] BitSearch choose_bits(const quant::Recipe& base, const SensitivityTable& table,
                                    const BitTargets& targets);

}  // namespace halftone::workflow
