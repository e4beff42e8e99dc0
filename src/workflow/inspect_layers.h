// The table of layers of a plan, a recipe or a model.
#pragma once

#include "halftone/quantize.h"

#include "backend/backend.h"

namespace halftone::workflow {

[[nodiscard]] QuantizeReport inspect_layers(backend::Device& device, const LayersOptions& options);

}  // namespace halftone::workflow
