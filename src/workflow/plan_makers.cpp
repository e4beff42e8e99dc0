#include "workflow/plans.h"

namespace halftone::workflow {

std::string_view plan_makers_hash() { return HALFTONE_PLAN_MAKERS; }

}  // namespace halftone::workflow
