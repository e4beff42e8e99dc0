// --dry-run of every verb that draws or builds.
#pragma once

#include "halftone/options.h"

namespace halftone::cli {

// Prints the resolved request and the plans that it would take, as JSON. Nothing is built, nothing
// calibrated: a quantized component whose calibration record is still to be made has no plan yet,
// which is logged.
void print_dry_run(const SessionOptions& session, const GenerateOptions& request);

}  // namespace halftone::cli
