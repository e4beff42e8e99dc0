// run(attributes, call): the reference of each op, one file each.
#pragma once

#include "reference/call.h"

namespace halftone::reference {

#define HALFTONE_OP(Name) void run(const graph::Name& op, const Call& call);
#include "graph/ops/ops.inc"
#undef HALFTONE_OP

}  // namespace halftone::reference
