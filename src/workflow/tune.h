// Per layer the form that changes its output least, measured while drawing.
#pragma once

#include <span>
#include <string>

#include "halftone/options.h"

#include "backend/backend.h"
#include "workflow/quantization.h"

namespace halftone::workflow {

struct TunedLayers {
  int total = 0;      // groups of layers that read one value
  int smoothed = 0;   // groups of linears that are smoothed
  int unchanged = 0;  // groups for which the first candidate was the best
};

// The recipe with, for each group of layers that read one value, what changes their outputs least:
// linears without smoothing or with one of a few alphas, static scales by one of a few collect
// methods. Draws the prompts in full precision once (workflow/layer_sqnr). Forms that cost the same
// at run time are compared, so nothing but quality decides. Rules of single layers hold the result;
// static scales are written out as amax. Deterministic.
[[nodiscard]] quant::Recipe tune_recipe(backend::Device& device, const SessionOptions& session,
                                        const GenerateOptions& generate,
                                        std::span<const std::string> prompts,
                                        const Quantization& base, TunedLayers* counts = nullptr);

}  // namespace halftone::workflow
