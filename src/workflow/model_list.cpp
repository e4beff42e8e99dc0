// Models on this machine.
#include <algorithm>
#include <filesystem>

#include <fmt/format.h>

#include "halftone/error.h"
#include "halftone/models.h"

#include "io/checkpoint.h"
#include "io/random_model.h"

namespace halftone {
namespace {

namespace fs = std::filesystem;

io::OpenOptions open_options(const std::string& hf_cache) {
  io::OpenOptions options;
  options.hf_cache.hf_hub_cache = hf_cache;
  return options;
}

ModelEntry describe(const std::string& name, const std::string& model,
                    const std::string& hf_cache) {
  ModelEntry entry{.name = name, .path = model, .family = {}, .problem = {}, .num_bytes = 0};
  try {
    const auto checkpoint = io::Checkpoint::open(model, open_options(hf_cache));
    entry.path = checkpoint->path().string();
    entry.family = checkpoint->family();
    for (const io::ComponentInfo& component : checkpoint->components()) {
      entry.num_bytes += component.bytes;
    }
  } catch (const Error& error) {
    entry.problem = error.what();
  }
  return entry;
}

std::vector<std::string> folders_of(const std::string& root) {
  std::vector<std::string> names;
  std::error_code failed;
  for (auto it = fs::directory_iterator(root, failed); !failed && it != fs::directory_iterator();
       it.increment(failed)) {
    names.push_back(it->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

std::vector<ModelEntry> list_models(const std::string& models_dir, const std::string& hf_cache) {
  std::vector<ModelEntry> models;
  if (!models_dir.empty()) {
    for (const std::string& name : folders_of(models_dir)) {
      const fs::path path = fs::path(models_dir) / name;
      std::error_code ignored;
      const bool is_model =
          fs::exists(path / "model_index.json", ignored) || path.extension() == ".safetensors";
      if (is_model) models.push_back(describe(name, path.string(), hf_cache));
    }
  }
  constexpr std::string_view kPrefix = "models--";
  if (!hf_cache.empty()) {
    for (const std::string& name : folders_of(hf_cache)) {
      const size_t separator = name.find("--", kPrefix.size());
      if (!name.starts_with(kPrefix) || separator == std::string::npos) continue;
      const std::string id = name.substr(kPrefix.size(), separator - kPrefix.size()) + "/" +
                             name.substr(separator + 2);
      models.push_back(describe(id, id, hf_cache));
    }
  }
  return models;
}

void write_random_model(const RandomModelOptions& options) {
  io::write_random_model({.family = options.family,
                          .tiny = options.tiny,
                          .seed = options.seed,
                          .dtype = parse_dtype(options.dtype),
                          .clip_vocab = options.clip_vocab,
                          .num_threads = static_cast<unsigned>(options.threads)},
                         options.out, options.progress);
}

ModelEntry find_model(const std::string& model, const std::string& hf_cache) {
  const auto checkpoint = io::Checkpoint::open(model, open_options(hf_cache));
  ModelEntry entry{.name = model,
                   .path = checkpoint->path().string(),
                   .family = checkpoint->family(),
                   .problem = {},
                   .num_bytes = 0};
  for (const io::ComponentInfo& component : checkpoint->components()) {
    entry.num_bytes += component.bytes;
  }
  return entry;
}

}  // namespace halftone
