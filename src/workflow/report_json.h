// Reports as JSON values; units are in the names (_ms, _bytes), non-finite numbers become null.
#pragma once

#include "halftone/device.h"
#include "halftone/models.h"
#include "halftone/report.h"

#include "base/json.h"

namespace halftone::workflow {

// Commit that was built, or "unknown".
[[nodiscard]] std::string_view build_commit();

// {"schema":"halftone.<verb>/v1","version":...,"commit":...}
[[nodiscard]] Json header(std::string_view verb);

[[nodiscard]] Json to_value(const ResolvedRequest& request);
[[nodiscard]] Json to_value(const PlanUse& plan);
[[nodiscard]] Json to_value(const MemoryUse& memory);
[[nodiscard]] Json to_value(const Spread& spread);

}  // namespace halftone::workflow
