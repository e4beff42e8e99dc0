// Operation counts of a call, for reports and rooflines.
#pragma once

#include "graph/ops/ops.h"

namespace halftone::graph {

// Floating-point operations of one run; a multiply-add counts 2. Matrix work only (linear, conv2d,
// attention): other ops are bound by memory and return 0.
[[nodiscard]] double flop_of(const OpDesc& desc);

}  // namespace halftone::graph
