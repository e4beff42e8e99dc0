// Which layers lose what: the per-layer part of a comparison's page.
#pragma once

#include <string>

#include "halftone/compare.h"

namespace halftone::workflow {

// Empty when no layer is quantized.
[[nodiscard]] std::string layers_section(const CompareReport& report);

}  // namespace halftone::workflow
