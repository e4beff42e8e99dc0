// A checkpoint with LoRAs added to its weights while they are read.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "halftone/log.h"

#include "io/hf_cache.h"
#include "io/lora_file.h"

namespace halftone::io {

struct LoraSpec {
  // A safetensors file, a folder that holds pytorch_lora_weights.safetensors or one safetensors
  // file, or ORG/NAME in the Hugging Face cache.
  std::string path;
  double weight = 1;
};

// W + sum over files of weight * alpha / rank * up * down, computed in f32 (algorithms of LoRA and
// LoCon; DoRA: W moves by `weight` towards the rows of the given magnitude). Thread-safe.
class LoraWeights final : public WeightSource {
 public:
  static constexpr double kMaxWeight = 100;  // beyond it pictures are noise: a slip of the pen

  // Throws as open_lora; kInvalidArgument for a weight that is not finite or beyond kMaxWeight.
  LoraWeights(std::shared_ptr<const Checkpoint> base, std::span<const LoraSpec> specs,
              const HfCacheLocations& cache, const Logger& logger);

  [[nodiscard]] bool contains(const std::string& name) const override;
  // f32 for a changed weight, whatever the checkpoint stores.
  [[nodiscard]] TensorType type(const std::string& name) const override;
  void read(const std::string& name, const TensorType& type, std::byte* dst) const override;

  struct Entry {
    std::unique_ptr<LoraFile> lora;
    double weight = 1;
  };
  [[nodiscard]] const std::vector<Entry>& entries() const { return entries_; }
  // "HASH:WEIGHT,..." of the files that change a component; empty when none does.
  [[nodiscard]] std::string identity(const std::string& component) const;
  // Throws kCorruptFile when a file changed since it was opened.
  void check_unchanged() const;

 private:
  struct Patch {
    const Entry* entry;
    const LoraModule* module;
  };
  static void add(const Patch& patch, Tensor& weight);

  std::shared_ptr<const Checkpoint> base_;
  std::vector<Entry> entries_;
  std::map<std::string, std::vector<Patch>> patches_;  // by weight
};

}  // namespace halftone::io
