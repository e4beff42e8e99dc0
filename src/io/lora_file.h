// LoRA files: which layer of the model each key belongs to.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "halftone/log.h"

#include "io/checkpoint.h"
#include "io/safetensors.h"

namespace halftone::io {

// What a file adds to one weight: scale * up * down, perhaps with rows of a given magnitude (DoRA).
struct LoraModule {
  std::string weight;  // name in the WeightSource
  Shape shape;         // of that weight
  // Owned by the file: [rank, in, ...], [out, rank, ...], [out] or null.
  const SafetensorsEntry* down = nullptr;
  const SafetensorsEntry* up = nullptr;
  const SafetensorsEntry* magnitude = nullptr;
  int64_t rank = 0;
  double scale = 1;  // alpha / rank
};

struct LoraFile {
  explicit LoraFile(const std::filesystem::path& path) : file(path) {}
  SafetensorsFile file;
  std::string hash;  // SHA-256 (hex) of its bytes
  std::vector<LoraModule> modules;
};

// Opens a file and resolves its keys against the checkpoint: kohya (`lora_unet_...`, with
// diffusers' or LDM's block names), PEFT (`unet.....lora_A.weight`) and older diffusers spellings.
// Every key is used, or listed in a warning. Throws kCorruptFile, kUnsupported (another base model,
// LoHa, LoKr, a whole checkpoint) or kNotFound, naming file and key.
[[nodiscard]] std::unique_ptr<LoraFile> open_lora(const std::filesystem::path& path,
                                                  const Checkpoint& base, const Logger& logger);

}  // namespace halftone::io
