// Runs the whole pipeline over calibration prompts with taps in the denoiser.
#pragma once

#include "halftone/calibrate.h"

#include "backend/backend.h"

namespace halftone::workflow {

[[nodiscard]] CalibrateReport calibrate(backend::Device& device, const CalibrateOptions& options);

// Makes the record that a session's recipe needs and its cache lacks, from the prompts in the
// model's folder (32 of them, 20 steps). Nothing when none is needed, when it is there, or when the
// model brings no prompts.
void calibrate_if_missing(backend::Device& device, const SessionOptions& session);

}  // namespace halftone::workflow
