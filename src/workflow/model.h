// An opened model: checkpoint, tokenizers, and what the pipeline must know of it.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "halftone/options.h"

#include "io/checkpoint.h"
#include "io/lora.h"
#include "models/build.h"
#include "pipeline/pipeline.h"

namespace halftone::workflow {

struct Model {
  std::shared_ptr<const io::Checkpoint> checkpoint;
  std::shared_ptr<const io::LoraWeights> loras;  // null when there are none
  pipeline::ModelFacts facts;
  std::vector<std::shared_ptr<const text::ClipTokenizer>> tokenizers;

  [[nodiscard]] const std::string& family() const { return facts.family; }
  // The checkpoint's, with the LoRAs added.
  [[nodiscard]] const WeightSource& weights() const {
    if (loras) return *loras;
    return *checkpoint;
  }
  // The LoRAs that change what a denoiser computes, its own and its text encoders'; empty without.
  [[nodiscard]] std::string lora_identity() const;
  // Throws kCorruptFile when a weight file changed since it was opened.
  void check_unchanged() const;
};

// Reads headers, configs and tokenizers; throws naming file and key. Warnings go to the logger.
[[nodiscard]] Model open_model(const ModelOptions& options, const std::string& cache_dir,
                               const Logger& logger);

// Where a plan's component lives in the checkpoint: "vae_decoder" -> "vae".
[[nodiscard]] std::string checkpoint_component(const std::string& component);
// A plan's metadata: models/metadata.h's keys, and for the unet "family" and
// "force_zeros_for_empty_prompt".
[[nodiscard]] std::map<std::string, std::string> plan_metadata(const io::Checkpoint& checkpoint,
                                                               const std::string& component);
// Which hidden state of its text encoders a family reads.
void choose_text_layer(const std::string& family, models::BuildOptions& options);

// First digits of the weights' content hash, for infotext; empty for models too large to hash
// quickly.
[[nodiscard]] std::string model_hash(const io::Checkpoint& checkpoint);

}  // namespace halftone::workflow
