// Mixed bit widths: each layer's output SQNR at each width, and the exact choice under a budget.
#pragma once

#include "halftone/options.h"

#include "backend/backend.h"
#include "quant/recipe.h"

namespace halftone::workflow {

struct BitSearch {
  quant::Recipe recipe;
  double bits = 0;    // mean over the weights of the layers that are quantized
  double noise = 0;   // sum over layers of the output energy that is error
  std::string front;  // lines "bits noise": the convex hull, cheapest first
};

// Weights of 2, 4 or 8 bits with 8-bit inputs for the layers that `session`'s int8 recipe
// quantizes, with a mean of target_bits +- 0.02. Draws generate.prompt once a width
// (workflow/layer_sqnr). Throws kInvalidArgument for a target outside [2, 8].
[[nodiscard]] BitSearch search_bits(backend::Device& device, const SessionOptions& session,
                                    const GenerateOptions& generate, double target_bits);

}  // namespace halftone::workflow
