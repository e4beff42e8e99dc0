// Single-file SD 1.x and SDXL checkpoints. The family is found by tensor names and shapes alone.
#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/text.h"
#include "io/layouts.h"
#include "io/name_maps/name_maps.h"
#include "io/released_configs.h"

namespace halftone::io {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 6> kConfigs{"unet",           "vae",       "text_encoder",
                                                   "text_encoder_2", "scheduler", "model_index"};

// Layouts known by one tensor; an empty family is one that we refuse, with a word on why.
struct Mark {
  std::string_view tensor, family, refusal;
};
constexpr std::array kMarks{
    Mark{"conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias", "sdxl", ""},
    Mark{"conditioner.embedders.0.model.transformer.resblocks.9.mlp.c_proj.bias", "",
         "an SDXL refiner"},
    Mark{"cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight", "",
         "a single file of Stable Diffusion 2"},
    Mark{"cond_stage_model.transformer.text_model.encoder.layers.0.layer_norm1.weight", "sd15", ""},
    Mark{"cond_stage_model.transformer.encoder.layers.0.layer_norm1.weight", "sd15", ""},
    Mark{"model.diffusion_model.joint_blocks.0.context_block.adaLN_modulation.1.bias", "",
         "a Stable Diffusion 3 file"},
    Mark{"joint_blocks.0.context_block.adaLN_modulation.1.bias", "", "a Stable Diffusion 3 file"},
    Mark{"model.diffusion_model.double_blocks.0.img_attn.norm.key_norm.scale", "", "a FLUX file"},
    Mark{"double_blocks.0.img_attn.norm.key_norm.scale", "", "a FLUX file"}};

std::string detect_family(const SafetensorsFile& file) {
  const std::string where = printable(file.file().path().string(), 400);
  std::vector<const Mark*> found;
  for (const Mark& mark : kMarks) {
    if (file.find(std::string(mark.tensor)) != nullptr) found.push_back(&mark);
  }
  if (found.empty()) {
    const auto& tensors = file.header().tensors;
    throw Error(
        Errc::kUnsupported,
        fmt::format(
            "{}: no known layout among its {} tensors (the first is '{}'); wanted an SDXL or "
            "SD 1.x checkpoint",
            where, tensors.size(), tensors.empty() ? "" : printable(tensors.front().name)));
  }
  for (const Mark* mark : found) {
    if (!mark->refusal.empty()) {
      throw Error(Errc::kUnsupported,
                  fmt::format("{}: is {}, which is not supported yet", where, mark->refusal));
    }
  }
  if (std::ranges::any_of(found, [&](const Mark* m) { return m->family != found[0]->family; })) {
    throw Error(Errc::kUnsupported, fmt::format("{}: has the marks of sdxl and of sd15", where));
  }
  const SafetensorsEntry* conv_in = file.find("model.diffusion_model.input_blocks.0.0.weight");
  if (conv_in == nullptr) {
    throw Error(
        Errc::kUnsupported,
        fmt::format("{}: has no UNet (model.diffusion_model.*); wanted a whole model", where));
  }
  if (conv_in->shape.rank() == 4 && conv_in->shape[1] != 4) {
    throw Error(Errc::kUnsupported,
                fmt::format("{}: its UNet takes {} channels (inpainting?), supported is 4", where,
                            conv_in->shape[1]));
  }
  return std::string(found[0]->family);
}

void add_configs(CheckpointParts& parts, const OpenOptions& options) {
  for (const std::string_view document : kConfigs) {
    auto released = released_config(parts.family, document);
    if (!released) continue;
    const std::string key(document == "model_index" ? "" : document);
    if (options.config_folder.empty()) {
      add_config(parts, key, std::move(*released),
                 fmt::format("built-in {} config of {}", document, parts.family));
      continue;
    }
    const std::string file = document == "model_index" ? "model_index.json"
                             : document == "scheduler" ? "scheduler/scheduler_config.json"
                                                       : key + "/config.json";
    read_config(parts, key, options.config_folder, file, {});
  }
}

// SDXL's second tokenizer pads with "!" (id 0), everything else with the end of text.
void add_tokenizers(CheckpointParts& parts, const OpenOptions& options) {
  std::vector<std::string> names{"tokenizer"};
  if (parts.family == "sdxl") names.emplace_back("tokenizer_2");
  for (const std::string& name : names) {
    if (!options.config_folder.empty()) {
      if (auto files = read_tokenizer(options.config_folder, name, {})) {
        parts.tokenizers.emplace(name, *files);
        continue;
      }
    }
    if (options.clip_vocab.empty()) continue;
    TokenizerFiles files;
    files.where = options.clip_vocab.string();
    files.vocab_json = read_text_file(options.clip_vocab / "vocab.json");
    files.merges_txt = read_text_file(options.clip_vocab / "merges.txt");
    files.special_tokens_map_json = fmt::format(
        R"({{"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "{}", "unk_token": "<|endoftext|>"}})",
        name == "tokenizer_2" ? "!" : "<|endoftext|>");
    parts.tokenizers.emplace(name, std::move(files));
  }
}

// One of `num_parts` equal runs of rows of a stored tensor, or its transpose.
TensorSource source_of(const std::string& where, const SafetensorsEntry& entry,
                       const MappedTensor& mapped) {
  TensorSource source{.file = 0, .entry = &entry, .shape = entry.shape};
  const bool fits = mapped.transposed
                        ? entry.shape.rank() == 2
                        : mapped.num_parts == 1 ||
                              (entry.shape.rank() > 0 &&
                               static_cast<uint64_t>(entry.shape[0]) % mapped.num_parts == 0);
  if (!fits) {
    throw Error(
        Errc::kCorruptFile,
        fmt::format(
            "{}: tensor '{}' of shape {} cannot be {}", where, entry.name, to_string(entry.shape),
            mapped.transposed ? "transposed" : fmt::format("split in {}", mapped.num_parts)));
  }
  if (mapped.transposed) {
    source.shape = Shape({entry.shape[1], entry.shape[0]});
    source.transposed = true;
  } else if (mapped.num_parts > 1) {
    source.shape[0] /= static_cast<int64_t>(mapped.num_parts);
    source.first = mapped.part * static_cast<uint64_t>(source.shape.num_elements());
  }
  return source;
}

}  // namespace

CheckpointParts open_single_file(const fs::path& path, const OpenOptions& options) {
  CheckpointParts parts;
  parts.layout = "single-file";
  parts.root = path;
  parts.files.push_back(std::make_unique<SafetensorsFile>(path));
  const SafetensorsFile& file = *parts.files.front();
  parts.warnings = file.header().warnings;
  parts.family = detect_family(file);
  add_configs(parts, options);
  NameMapContext context;
  context.unet_layers_per_block =
      static_cast<uint64_t>(parts.configs.at("unet").at("layers_per_block").integer(1, 100));
  context.vae_levels = parts.configs.at("vae").at("block_out_channels").items().size();
  uint64_t num_unknown = 0;
  std::string first_unknown;
  for (const SafetensorsEntry& entry : file.header().tensors) {
    std::optional<std::vector<MappedTensor>> mapped;
    for (const NameMap* map : name_maps()) {
      mapped = map->map(entry.name, context);
      if (mapped) break;
    }
    if (!mapped) {
      if (num_unknown++ == 0) first_unknown = printable(entry.name);
      continue;
    }
    for (const MappedTensor& tensor : *mapped) {
      add_tensor(parts, tensor.component, tensor.name, source_of(path.string(), entry, tensor));
    }
  }
  if (num_unknown > 0) {
    warn(parts, options.logger,
         fmt::format("{}: {} tensors are of no known part and not used, for example '{}'",
                     path.string(), num_unknown, first_unknown));
  }
  add_tokenizers(parts, options);
  return parts;
}

}  // namespace halftone::io
