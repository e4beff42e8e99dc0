// Whether plan files that a user named are what the other options ask for.
#pragma once

#include <string>
#include <vector>

#include "halftone/options.h"

#include "runtime/plan.h"
#include "workflow/model.h"

namespace halftone::workflow {

struct PlanWish {
  std::string file;                  // for messages
  std::string loras;                 // identity of those that change the denoiser; empty = none
  Precision precision;               // as the user gave it; kAuto takes the plan's
  QuantizationOptions quantization;  // nothing chosen takes the plan's
  std::vector<std::string> disabled_passes, disabled_kernels;  // the plan must lack them, too
};

// Of the denoiser's. Throws kIncompatiblePlan naming both sides when the plan is of another
// component, model, set of LoRAs, precision, recipe, calibration record or kind of arithmetic, or
// was compiled with what is to be left out.
void check_plan_file(const runtime::Plan& plan, const Model& model, const PlanWish& wish);

// Of another component's, which has no choice left once the denoiser's is made: as above, held
// against the fingerprint of the plan that would be built, and against the wish's file and what is
// to be left out.
void check_component_plan(const runtime::Plan& plan, const runtime::Fingerprint& wanted,
                          const PlanWish& wish);

}  // namespace halftone::workflow
