// Looking into files: plans, checkpoints, safetensors, images. Only headers are read.
#pragma once

#include <string>

#include "halftone/options.h"

namespace halftone {

struct InspectOptions {
  // A plan, a folder that holds .plan files and no model_index.json, a model folder or id, a
  // safetensors file or a PNG.
  std::string path;
  std::string hf_cache;
  bool tensors = false;  // models, safetensors: list every tensor
  bool verbose = false;  // plans: the kernels that refused each call, and why
};

struct InspectResult {
  std::string kind;  // "plan", "plans" (a folder of them), "model", "safetensors", "image"
  std::string text;  // for people
  // Schema "halftone.inspect/v1"; of "plans" an array `plans` of what each would be by itself.
  std::string json;
};
// Throws what is wrong with the file, of a folder of plans with any of them.
[[nodiscard]] InspectResult inspect(const InspectOptions& options);

}  // namespace halftone
