// A model on disk: a diffusers folder, a single-file SD/SDXL checkpoint, or a Hugging Face id found
// in the local cache, all seen alike: named tensors in diffusers' spelling, config files, tokenizer
// files.
#pragma once

#include <atomic>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "halftone/log.h"

#include "base/json.h"
#include "io/hf_cache.h"
#include "io/safetensors.h"
#include "tensor/tensor.h"

namespace halftone::io {

struct OpenOptions {
  std::string variant{};  // "fp16": prefer files of this variant; empty: the plain ones
  HfCacheLocations hf_cache{};
  // Folders that replace one component of the model: {"vae", "/models/sdxl-vae-fp16-fix"}.
  std::map<std::string, std::filesystem::path> component_folders{};
  // For single files, which hold neither configs nor a tokenizer. `config_folder` is a diffusers
  // folder whose config.json and tokenizer files describe the file; without it the released models'
  // configs are used, and `clip_vocab` must hold CLIP's vocab.json and merges.txt.
  std::filesystem::path config_folder{};
  std::filesystem::path clip_vocab{};
  // Where content_hash() remembers the hashes of large files; empty: nowhere.
  std::filesystem::path hash_cache{};
  Logger logger{};  // receives the warnings too
};

// Text of a tokenizer's files: vocab.json with merges.txt, or tokenizer.json where these two are
// absent. Others are empty when the model lacks them.
struct TokenizerFiles {
  std::string where;  // for messages: "MODEL/tokenizer"
  std::string vocab_json, merges_txt, tokenizer_json;
  std::string special_tokens_map_json, tokenizer_config_json, added_tokens_json;
};

struct ComponentInfo {
  std::string name;  // "unet"
  uint64_t num_tensors = 0;
  uint64_t num_parameters = 0;
  uint64_t bytes = 0;
  std::map<std::string, uint64_t> bytes_by_dtype;  // "F16" -> bytes
  std::vector<std::string> files;                  // relative to the model
};

// One tensor of the model as it is stored: a run of elements of a stored tensor, perhaps
// transposed.
struct TensorSource {
  size_t file = 0;                          // index into CheckpointParts::files
  const SafetensorsEntry* entry = nullptr;  // owned by that file
  Shape shape{};                            // as diffusers has it
  uint64_t first = 0;                       // element of the stored tensor
  bool transposed = false;                  // stored as the transpose of `shape` (rank 2)
};

// What the readers of the layouts produce.
struct CheckpointParts {
  std::string layout;  // "diffusers", "single-file", "transformers"
  std::string family;  // "sdxl", "sd15", "clip"
  std::filesystem::path root;
  std::vector<std::unique_ptr<SafetensorsFile>> files;
  std::map<std::string, TensorSource> tensors;   // "<component>/<name>"
  std::map<std::string, JsonView> configs;       // component, "scheduler" or "" (model_index.json)
  std::optional<JsonView> settings;              // halftone.json
  std::vector<std::unique_ptr<Json>> documents;  // what the views look at
  std::map<std::string, TokenizerFiles> tokenizers;
  std::vector<std::string> warnings;
};

// Thread-safe once opened.
class Checkpoint final : public WeightSource {
 public:
  // `model` is a path or ORG/NAME[@REVISION]. Reads headers and small files only. Throws kNotFound
  // with the command that fetches an absent id, kCorruptFile or kUnsupported naming file, key and
  // reason.
  [[nodiscard]] static std::shared_ptr<const Checkpoint> open(const std::string& model,
                                                              const OpenOptions& options = {});

  // A folder as transformers saves a CLIPModel: both towers as the component "clip", and, where the
  // folder has one, preprocessor_config.json as the config "preprocessor". Throws like open().
  [[nodiscard]] static std::shared_ptr<const Checkpoint> open_clip(
      const std::filesystem::path& folder, const OpenOptions& options = {});

  // WeightSource. Components: text_encoder, text_encoder_2, unet, vae.
  [[nodiscard]] bool contains(const std::string& name) const override;
  [[nodiscard]] TensorType type(const std::string& name) const override;
  void read(const std::string& name, const TensorType& type, std::byte* dst) const override;
  // Names without the component, sorted.
  [[nodiscard]] std::vector<std::string> tensor_names(std::string_view component) const;

  [[nodiscard]] bool has_component(const std::string& name) const;
  // A component's config.json; throws kNotFound. Views live as long as the checkpoint.
  [[nodiscard]] JsonView config(const std::string& component) const;
  [[nodiscard]] std::optional<JsonView> find_config(const std::string& component) const;
  [[nodiscard]] JsonView scheduler_config() const;
  [[nodiscard]] JsonView model_index() const;
  // Halftone's own file halftone.json beside model_index.json: what diffusers has no key for, such
  // as the model's default number of steps. Decides no plan.
  [[nodiscard]] const std::optional<JsonView>& settings() const { return parts_.settings; }
  // "tokenizer" or "tokenizer_2"; throws kNotFound saying where one can come from.
  [[nodiscard]] const TokenizerFiles& tokenizer(const std::string& name) const;

  [[nodiscard]] const std::string& family() const { return parts_.family; }
  [[nodiscard]] const std::string& layout() const { return parts_.layout; }
  [[nodiscard]] const std::filesystem::path& path() const { return parts_.root; }
  [[nodiscard]] const std::vector<std::string>& warnings() const { return parts_.warnings; }
  [[nodiscard]] std::vector<ComponentInfo> components() const;

  // SHA-256 (hex) of configs, names, types and shapes; no tensor data is read. Enough for what
  // depends on the model's structure alone.
  [[nodiscard]] std::string structure_hash() const;
  // SHA-256 (hex) that also covers every byte of the weights; independent of path and time. The
  // files are read once in parallel; with OpenOptions::hash_cache the result is remembered per
  // (device, inode, size, mtime, ctime), so later starts read nothing.
  [[nodiscard]] std::string content_hash() const;

  // Infinite or NaN elements seen by read() so far.
  [[nodiscard]] uint64_t num_non_finite() const { return num_non_finite_; }
  // Throws kCorruptFile when a weight file changed since open(); call after loading.
  void check_unchanged() const;

 private:
  Checkpoint(CheckpointParts parts, OpenOptions options);
  [[nodiscard]] const TensorSource& source(const std::string& name) const;

  CheckpointParts parts_;
  OpenOptions options_;
  mutable std::atomic<uint64_t> num_non_finite_ = 0;
  mutable std::mutex hash_mutex_;
  mutable std::string content_hash_;
};

}  // namespace halftone::io
