// From what a user asked for to what the pipeline runs.
#pragma once

#include <optional>

#include "halftone/options.h"
#include "halftone/report.h"

#include "diffusion/scheduler.h"
#include "pipeline/pipeline.h"
#include "workflow/model.h"

namespace halftone::workflow {

// A request with defaults filled in and files read; valid for every batch of a run.
struct PreparedRequest {
  ResolvedRequest resolved;
  diffusion::Schedule schedule;
  std::optional<Tensor> init_image;  // f32[1, h, w, 3]
  std::optional<Tensor> latents;     // f32[batch_size * batch_count, c, h, w]
  pipeline::SizeConditioning size;
  std::vector<std::string> notes;  // of what was asked for without effect: sentences
};

// Defaults come from the model and its family. Throws kInvalidArgument naming the parameter.
[[nodiscard]] PreparedRequest prepare_request(const Model& model, const GenerateOptions& options);

// The batch number `batch` of a run whose first image has `seed`.
[[nodiscard]] pipeline::Request batch_request(const PreparedRequest& prepared,
                                              const GenerateOptions& options, uint64_t seed,
                                              int batch, Tensor& latents_of_batch);

}  // namespace halftone::workflow
