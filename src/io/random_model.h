// Checkpoints of the true shapes with seeded random weights, to measure speed and memory without a
// download. They say nothing about quality.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "halftone/log.h"

#include "tensor/dtype.h"

namespace halftone::io {

struct RandomModelOptions {
  std::string family = "sdxl";  // "sdxl", "sdxl-turbo" or "sd15"
  bool tiny = false;            // narrow and shallow, for tests: a few megabytes
  uint64_t seed = 0;
  DType dtype = DType::kF16;           // or kBF16, kF32
  std::filesystem::path clip_vocab{};  // folder with CLIP's vocab.json and merges.txt; empty: a
                                       // made-up vocabulary of the same size
  unsigned num_threads = 0;            // 0: one per processor
};

// Writes a model folder in the diffusers layout; it appears whole, under `folder`, or not at all.
// The bytes depend on the options alone, not on the number of threads. Weights are normal with
// standard deviation 1/sqrt(fan in), norms one, biases zero, so that activations stay finite in
// fp16. `folder` must not exist or be empty (else kInvalidArgument). Progress counts mebibytes.
void write_random_model(const RandomModelOptions& options, const std::filesystem::path& folder,
                        const ProgressCallback& progress = {});

}  // namespace halftone::io
