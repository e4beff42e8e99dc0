// The diffusers layout: model_index.json and one folder per component; and transformers' folder of
// one CLIPModel.
#include <algorithm>
#include <array>
#include <functional>
#include <optional>
#include <set>

#include <fmt/format.h>

#include "base/text.h"
#include "io/layouts.h"

namespace halftone::io {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxShards = 1000;

struct Family {
  std::string_view class_name, family;
  bool has_second_encoder;
};
constexpr std::array kFamilies{Family{"StableDiffusionXLPipeline", "sdxl", true},
                               Family{"StableDiffusionXLImg2ImgPipeline", "sdxl", true},
                               Family{"StableDiffusionPipeline", "sd15", false},
                               Family{"StableDiffusionImg2ImgPipeline", "sd15", false}};

struct Component {
  std::string_view name, class_name;
  std::string_view weights;  // base name of the weight files
};
constexpr std::array kComponents{
    Component{"text_encoder", "CLIPTextModel", "model"},
    Component{"text_encoder_2", "CLIPTextModelWithProjection", "model"},
    Component{"unet", "UNet2DConditionModel", "diffusion_pytorch_model"},
    Component{"vae", "AutoencoderKL", "diffusion_pytorch_model"}};

const Family& find_family(const JsonView& index) {
  const std::string name = index.at("_class_name").string();
  const auto it = std::ranges::find(kFamilies, name, &Family::class_name);
  if (it == kFamilies.end()) {
    throw Error(Errc::kUnsupported,
                fmt::format("{}: key '_class_name': got '{}', supported are {}", index.file(),
                            printable(name), "StableDiffusionXLPipeline, StableDiffusionPipeline"));
  }
  return *it;
}

// Class of a component: entry [library, class]; nullopt when absent or [null, null].
std::optional<std::string> listed_class(const JsonView& index, std::string_view component) {
  const auto entry = index.find(component);
  if (!entry) return std::nullopt;
  const auto items = entry->items();
  if (items.size() != 2)
    entry->fail(fmt::format("got {} items, wanted [library, class]", items.size()));
  if (items[0].value().is_null() && items[1].value().is_null()) return std::nullopt;
  (void)items[0].string();
  return items[1].string();
}

// A folder being read, with what its files may reach.
struct Folder {
  fs::path root;     // holds the component's folder, or is it for a replaced component
  std::string name;  // relative to root; empty when root is the component's folder
  fs::path fence;

  [[nodiscard]] fs::path path() const { return name.empty() ? root : root / name; }
  [[nodiscard]] std::string shown(const std::string& file) const {
    return (path() / file).string();
  }
  [[nodiscard]] bool has(const std::string& file) const {
    std::error_code error;
    return fs::symlink_status(path() / file, error).type() != fs::file_type::not_found && !error;
  }
  // Relative to root.
  [[nodiscard]] std::string relative(const std::string& file) const {
    return name.empty() ? file : name + "/" + file;
  }
  [[nodiscard]] fs::path resolve(const std::string& file) const {
    return resolve_inside(root, relative(file), fence);
  }
};

void add_file(CheckpointParts& parts, const std::string& component, const fs::path& path,
              const std::function<bool(const SafetensorsEntry&)>& wanted) {
  parts.files.push_back(std::make_unique<SafetensorsFile>(path));
  const SafetensorsFile& file = *parts.files.back();
  for (const std::string& text : file.header().warnings) parts.warnings.push_back(text);
  for (const SafetensorsEntry& entry : file.header().tensors) {
    if (!wanted(entry)) continue;
    add_tensor(parts, component, entry.name,
               {.file = parts.files.size() - 1, .entry = &entry, .shape = entry.shape});
  }
}

// Reads the shards that an index names. The index decides: each tensor must be in its shard.
void add_shards(CheckpointParts& parts, const Logger& logger, const std::string& component,
                const Folder& folder, const std::string& index_name) {
  const std::string where = folder.shown(index_name);
  const Json document = parse_json(read_text_file(folder.resolve(index_name)), where);
  const JsonView index(document, where);
  std::map<std::string, std::set<std::string>> tensors_of;  // shard -> tensors
  std::map<std::string, std::string> shard_of;
  for (const auto& [tensor, view] : index.at("weight_map").members()) {
    const std::string& shard = view.string();
    if (!is_safe_relative_path(shard) || !shard.ends_with(".safetensors")) {
      view.fail(fmt::format("got '{}', wanted the name of a .safetensors file beside the index",
                            printable(shard)));
    }
    tensors_of[shard].insert(tensor);
    shard_of[tensor] = shard;
  }
  if (tensors_of.size() > kMaxShards) {
    index.fail(fmt::format("names {} files, the limit is {}", tensors_of.size(), kMaxShards));
  }
  uint64_t total = 0;
  for (const auto& [shard, tensors] : tensors_of) {
    size_t found = 0;
    add_file(parts, component, folder.resolve(shard), [&](const SafetensorsEntry& entry) {
      const auto it = shard_of.find(entry.name);
      if (it == shard_of.end()) {
        warn(parts, logger,
             fmt::format("{}: tensor '{}' of {} is not listed", where, entry.name, shard));
        return false;
      }
      if (it->second != shard) {
        index.fail(fmt::format("tensor '{}' is in {} and in {}", entry.name, it->second, shard));
      }
      ++found;
      total += entry.end - entry.begin;
      return true;
    });
    if (found == tensors.size()) continue;
    for (const std::string& tensor : tensors) {
      if (parts.files.back()->find(tensor) == nullptr) {
        index.fail(fmt::format("tensor '{}' is not in {}", printable(tensor), shard));
      }
    }
  }
  if (const auto metadata = index.find("metadata")) {
    const int64_t size = metadata->integer_or("total_size", static_cast<int64_t>(total));
    if (size != static_cast<int64_t>(total)) {
      warn(parts, logger,
           fmt::format("{}: metadata.total_size is {}, the tensors have {} bytes", where, size,
                       total));
    }
  }
}

// Shards on disk that the index does not name.
void warn_unlisted(CheckpointParts& parts, const Logger& logger, const Folder& folder,
                   const std::string& stem) {
  for (const std::string& name : list_folder(folder.path())) {
    const bool is_shard = name.starts_with(stem + "-") && name.ends_with(".safetensors") &&
                          name.find("-of-") != std::string::npos;
    const bool is_read = std::ranges::any_of(
        parts.files, [&](const auto& file) { return file->file().path().filename() == name; });
    if (is_shard && !is_read) {
      warn(parts, logger, fmt::format("{}: not named by the index", folder.shown(name)));
    }
  }
}

struct WeightFiles {
  std::string single, index;
};

WeightFiles weight_files(const std::string& base, const std::string& variant) {
  if (variant.empty()) return {base + ".safetensors", base + ".safetensors.index.json"};
  return {fmt::format("{}.{}.safetensors", base, variant),
          fmt::format("{}.safetensors.index.{}.json", base, variant)};
}

// Reads the weights of the wanted variant, else the plain ones, else the only variant there is.
void add_weights(CheckpointParts& parts, const OpenOptions& options, const std::string& component,
                 const Folder& folder, const std::string& base) {
  std::vector<std::string> variants{options.variant};
  if (!options.variant.empty()) variants.emplace_back();
  for (const char* other : {"fp16", "bf16", "fp32"}) variants.emplace_back(other);
  for (const std::string& variant : variants) {
    const WeightFiles files = weight_files(base, variant);
    const bool has_index = folder.has(files.index);
    const bool has_single = folder.has(files.single);
    if (!has_index && !has_single) continue;
    if (variant != options.variant) {
      warn(parts, options.logger,
           fmt::format("{}: no {} weights, using {}", folder.path().string(),
                       options.variant.empty() ? "plain" : options.variant,
                       has_index ? files.index : files.single));
    }
    if (has_index && has_single) {
      warn(parts, options.logger,
           fmt::format("{}: both {} and {} are present, using the index", folder.path().string(),
                       files.single, files.index));
    }
    if (has_index) {
      add_shards(parts, options.logger, component, folder, files.index);
      warn_unlisted(parts, options.logger, folder, base);
    } else {
      add_file(parts, component, folder.resolve(files.single),
               [](const SafetensorsEntry&) { return true; });
    }
    return;
  }
  if (folder.has(base + ".bin") || folder.has("pytorch_model.bin")) {
    throw Error(
        Errc::kUnsupported,
        fmt::format("{}: holds torch pickle (.bin) weights only, wanted {}.safetensors; save "
                    "the model again with safe_serialization",
                    folder.path().string(), base));
  }
  throw Error(Errc::kNotFound, fmt::format("{}: no {}.safetensors", folder.path().string(), base));
}

void add_component(CheckpointParts& parts, const OpenOptions& options, const Component& component,
                   const fs::path& root, const fs::path& fence) {
  const std::string name(component.name);
  Folder folder{root, name, fence};
  if (const auto it = options.component_folders.find(name); it != options.component_folders.end()) {
    folder = {it->second, "", hf_snapshot_of(it->second).cache_root};
  }
  read_config(parts, name, folder.root, folder.relative("config.json"), folder.fence);
  add_weights(parts, options, name, folder, std::string(component.weights));
}

}  // namespace

CheckpointParts open_diffusers_folder(const fs::path& root, const fs::path& fence,
                                      const OpenOptions& options) {
  CheckpointParts parts;
  parts.layout = "diffusers";
  parts.root = root;
  std::error_code error;
  const std::string where = (root / "model_index.json").string();
  if (fs::symlink_status(root / "model_index.json", error).type() == fs::file_type::not_found) {
    throw Error(
        Errc::kNotFound,
        fmt::format("{}: no model_index.json; wanted a model folder in the diffusers layout",
                    root.string()));
  }
  read_config(parts, "", root, "model_index.json", fence);
  const JsonView index = parts.configs.at("");
  const Family& family = find_family(index);
  parts.family = family.family;
  for (const Component& component : kComponents) {
    const auto class_name = listed_class(index, component.name);
    if (component.name == "text_encoder_2" && !family.has_second_encoder) continue;
    if (!class_name) {
      index.fail(fmt::format("component '{}' is absent, wanted [library, {}]", component.name,
                             component.class_name));
    }
    if (*class_name != component.class_name) {
      throw Error(Errc::kUnsupported,
                  fmt::format("{}: key '{}': got class '{}', supported is {}", where,
                              component.name, printable(*class_name), component.class_name));
    }
    add_component(parts, options, component, root, fence);
  }
  if (listed_class(index, "scheduler")) {
    read_config(parts, "scheduler", root, "scheduler/scheduler_config.json", fence);
  }
  if (fs::exists(root / "halftone.json", error)) {
    parts.settings = read_document(parts, root, "halftone.json", fence);
  }
  for (const char* name : {"tokenizer", "tokenizer_2"}) {
    if (!listed_class(index, name)) continue;
    if (!fs::is_directory(root / name, error)) {
      throw Error(Errc::kNotFound,
                  fmt::format("{}: lists '{}', but the folder is missing", where, name));
    }
    if (auto files = read_tokenizer(root, name, fence)) parts.tokenizers.emplace(name, *files);
  }
  return parts;
}

CheckpointParts open_clip_folder(const fs::path& root, const fs::path& fence,
                                 const OpenOptions& options) {
  CheckpointParts parts;
  parts.layout = "transformers";
  parts.family = "clip";
  parts.root = root;
  const Folder folder{root, "", fence};
  if (!folder.has("config.json")) {
    throw Error(Errc::kNotFound,
                fmt::format("{}: no config.json; wanted the folder of a Hugging Face CLIPModel: "
                            "config.json, model.safetensors and the tokenizer's files",
                            root.string()),
                ErrorDetails{.file = root.string(),
                             .wanted = "config.json",
                             .remedy = "give the folder of a Hugging Face CLIPModel"});
  }
  read_config(parts, "clip", root, "config.json", fence);
  add_weights(parts, options, "clip", folder, "model");
  if (folder.has("preprocessor_config.json")) {
    read_config(parts, "preprocessor", root, "preprocessor_config.json", fence);
  } else if (folder.has("processor_config.json")) {  // where transformers 5 keeps it
    const JsonView whole = read_document(parts, root, "processor_config.json", fence);
    if (const auto images = whole.find("image_processor")) {
      parts.configs.insert_or_assign("preprocessor", *images);
    }
  }
  return parts;
}

}  // namespace halftone::io
