// Whether a plan file that a user named is what the other options ask for.
#pragma once

#include <string>

#include "halftone/options.h"

#include "runtime/plan.h"
#include "workflow/model.h"

namespace halftone::workflow {

struct PlanWish {
  std::string file;                  // for messages
  std::string loras;                 // identity of those that change the denoiser; empty = none
  Precision precision;               // as the user gave it; kAuto takes the plan's
  QuantizationOptions quantization;  // nothing chosen takes the plan's
};

// Throws kIncompatiblePlan naming both sides when the plan is of another component, model,
// set of LoRAs, precision, recipe, calibration record or kind of arithmetic.
void check_plan_file(const runtime::Plan& plan, const Model& model, const PlanWish& wish);

}  // namespace halftone::workflow
