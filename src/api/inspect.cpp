#include "workflow/inspect.h"

namespace halftone {

InspectResult inspect(const InspectOptions& options) { return workflow::inspect(options); }

}  // namespace halftone
