// Looking into files: plans, checkpoints, safetensors, images. Only headers are read.
#pragma once

#include <string>

#include "halftone/options.h"

namespace halftone {

struct InspectOptions {
  std::string path;  // a plan or folder of them, a model folder or id, a safetensors file, a PNG
  std::string hf_cache;
  bool tensors = false;  // list every tensor
  bool verbose = false;  // plans: the kernels that refused each call, and why
};

struct InspectResult {
  std::string kind;  // "plan", "plans" (a folder of them), "model", "safetensors", "image"
  std::string text;  // for people
  std::string json;  // schema "halftone.inspect/v1"
};
[[nodiscard]] InspectResult inspect(const InspectOptions& options);

}  // namespace halftone
