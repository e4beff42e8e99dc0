// The table of a recipe's layers, and recipe files.
#pragma once

#include "halftone/quantize.h"

#include "backend/backend.h"

namespace halftone::workflow {

[[nodiscard]] QuantizeReport quantize(backend::Device& device, const QuantizeOptions& options);

}  // namespace halftone::workflow
