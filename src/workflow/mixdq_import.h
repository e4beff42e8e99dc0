// MixDQ's files as a recipe.
#pragma once

#include "halftone/log.h"
#include "halftone/quantize.h"

#include "quant/recipe.h"
#include "workflow/model.h"

namespace halftone::workflow {

// The recipe of options.weight_bits, act_bits, quant_params and protect. Throws kInvalidArgument
// for names that are no layers of the denoiser and for scales of another number of channels.
[[nodiscard]] quant::Recipe import_mixdq(const QuantizeOptions& options, const Model& model,
                                         const Logger& logger);

}  // namespace halftone::workflow
