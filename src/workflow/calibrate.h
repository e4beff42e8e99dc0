// Runs the whole pipeline over calibration prompts with taps in the denoiser.
#pragma once

#include "halftone/calibrate.h"

#include "backend/backend.h"
#include "workflow/model.h"

namespace halftone::workflow {

[[nodiscard]] CalibrateReport calibrate(backend::Device& device, const CalibrateOptions& options);

// Of the model's folder (prompts/calibration.txt); empty when it brings none.
[[nodiscard]] std::vector<std::string> calibration_prompts(const Model& model);

// As halftone::calibrate_if_missing; a model that brings no prompts takes `prompts`, drawn as
// `generate` says.
void calibrate_if_missing(backend::Device& device, const SessionOptions& session,
                          const std::vector<std::string>& prompts = {},
                          const GenerateOptions& generate = {});
// Whether these options can need a record at all; opens no file.
[[nodiscard]] bool may_need_record(const SessionOptions& session);

}  // namespace halftone::workflow
