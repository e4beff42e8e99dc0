// Draws the prompts in both ways, measures, and writes the report.
#pragma once

#include "halftone/compare.h"

#include "backend/backend.h"

namespace halftone::workflow {

// One side at a time is in memory. The pictures are files in options.output; latents are kept, all
// steps' of them while they take little memory. The networks of the scores run on `host`, which may
// be the same device; their files are checked before anything is drawn.
[[nodiscard]] CompareReport compare(backend::Device& device, backend::Device& host,
                                    const CompareOptions& options);

}  // namespace halftone::workflow
