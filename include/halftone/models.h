// Models on this machine, and random ones.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "halftone/log.h"

namespace halftone {

struct ModelEntry {
  std::string name;  // folder name or ORG/NAME
  std::string path;
  std::string family;   // "sdxl", "sd15", or empty when unreadable
  std::string problem;  // why it cannot be used; empty = usable
  uint64_t num_bytes = 0;
};

// Models in `models_dir` and in the Hugging Face cache (either may be empty or missing).
[[nodiscard]] std::vector<ModelEntry> list_models(const std::string& models_dir,
                                                  const std::string& hf_cache);
// What a model name resolves to: a folder or file. Throws kNotFound with the command that gets it.
[[nodiscard]] ModelEntry find_model(const std::string& model, const std::string& hf_cache);

struct VerifiedFile {
  std::string path;  // relative to the model
  uint64_t num_bytes = 0;
  std::string sha256;   // of what was read
  std::string problem;  // empty = as it should be
};
struct ModelVerification {
  ModelEntry model;
  std::vector<VerifiedFile> files;  // of weights
  uint64_t num_non_finite = 0;      // elements of the weights
  [[nodiscard]] bool passed() const;
};
// Opens a model as generate would (headers, configs, tokenizers, names and shapes of all tensors),
// then reads every byte of its weights. Files that the Hugging Face cache names by their SHA-256
// must have it. Throws as find_model, and kCorruptFile for a model that cannot be opened.
[[nodiscard]] ModelVerification verify_model(const std::string& model, const std::string& hf_cache,
                                             const ProgressCallback& progress = {});

struct RemovedModel {
  std::string path;
  uint64_t num_bytes = 0, num_files = 0;
};
// Removes NAME in `models_dir` (a diffusers folder or a .safetensors file) or ORG/NAME in the
// Hugging Face cache, all its revisions; with `dry_run` only says what that would be. Never touches
// anything else: throws kInvalidArgument for other paths, kNotFound for what is not there.
RemovedModel remove_model(const std::string& name, const std::string& models_dir,
                          const std::string& hf_cache, bool dry_run);

struct RandomModelOptions {
  std::string family;         // "sdxl", "sdxl-turbo", "sd15"
  std::string out;            // folder to create
  bool tiny = false;          // a few MB instead of the true shapes
  std::string dtype = "f16";  // "f32", "f16", "bf16"
  uint64_t seed = 0;
  int threads = 0;  // 0 = one per processor
  std::string
      clip_vocab;  // folder with CLIP's vocab.json and merges.txt; empty = a made-up vocabulary
  ProgressCallback progress;
};
// Writes a diffusers folder of seeded random weights; throws kInvalidArgument when `out` holds
// something.
void write_random_model(const RandomModelOptions& options);

[[nodiscard]] std::string to_json(const std::vector<ModelEntry>& models);
[[nodiscard]] std::string to_json(const ModelVerification& verification);
[[nodiscard]] std::string to_json(const RemovedModel& removed);

}  // namespace halftone
