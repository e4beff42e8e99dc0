#include "workflow/model.h"

#include <algorithm>

#include <fmt/format.h>

#include "halftone/error.h"

#include "models/check_weights.h"
#include "models/registry.h"

namespace halftone::workflow {
namespace {

text::ClipTokenizerFiles files_of(const io::TokenizerFiles& files) {
  return {.vocab = files.vocab_json,
          .merges = files.merges_txt,
          .tokenizer_json = files.tokenizer_json,
          .tokenizer_config = files.tokenizer_config_json,
          .special_tokens_map = files.special_tokens_map_json,
          .added_tokens = files.added_tokens_json,
          .folder = files.where};
}

int64_t integer_of(const std::map<std::string, std::string>& metadata, const std::string& key) {
  const auto found = metadata.find(key);
  check_internal(found != metadata.end(), "metadata key of our own models");
  return std::stoll(found->second);
}

std::shared_ptr<const text::ClipTokenizer> open_tokenizer(const io::Checkpoint& checkpoint,
                                                          const std::string& encoder) {
  const std::string name = "tokenizer" + encoder.substr(std::string_view("text_encoder").size());
  const auto metadata = plan_metadata(checkpoint, encoder);
  return std::make_shared<const text::ClipTokenizer>(
      files_of(checkpoint.tokenizer(name)),
      text::ClipTokenizerLimits{.max_positions = integer_of(metadata, "max_tokens"),
                                .embedding_rows = integer_of(metadata, "vocab_size")});
}

void check_component(const io::Checkpoint& checkpoint, const std::string& component) {
  const JsonView config = checkpoint.config(component);
  models::check_weights(component, models::class_name_of(config.value()), config, checkpoint,
                        checkpoint.tensor_names(component));
}

// A component of another family is found out late else, by what its plan lacks.
void check_replacement(const Model& model, const std::string& component,
                       const std::string& folder) {
  const auto refuse = [&](const char* text) {
    throw Error(Errc::kInvalidArgument,
                fmt::format("{}: {} models {} {}", folder, model.family(), text, component));
  };
  const auto& encoders = pipeline::find_family(model.family()).text_encoders;
  if (component.starts_with("text_encoder") && std::ranges::count(encoders, component) == 0) {
    refuse("have no");
  }
  if (component != "unet") return;
  const bool takes_sizes =
      model.checkpoint->config("unet").string_or("addition_embed_type", "") == "text_time";
  if (takes_sizes != (model.family() == "sdxl")) refuse("have another kind of");
}

}  // namespace

std::string checkpoint_component(const std::string& component) {
  return component.starts_with("vae_") ? "vae" : component;
}

std::map<std::string, std::string> plan_metadata(const io::Checkpoint& checkpoint,
                                                 const std::string& component) {
  const JsonView config = checkpoint.config(checkpoint_component(component));
  auto metadata = models::metadata(component, models::class_name_of(config.value()), config);
  if (component == "unet") {
    metadata["family"] = checkpoint.family();
    // Present in SDXL's index alone; its pipeline takes true when the key is missing.
    const bool force_zeros = checkpoint.model_index().boolean_or("force_zeros_for_empty_prompt",
                                                                 checkpoint.family() == "sdxl");
    metadata["force_zeros_for_empty_prompt"] = force_zeros ? "true" : "false";
  }
  return metadata;
}

void choose_text_layer(const std::string& family, models::BuildOptions& options) {
  // SDXL reads the penultimate layer without the final norm, SD 1.5 the last one with it.
  options.text_layers_skipped = family == "sdxl" ? 1 : 0;
  options.text_final_norm = family != "sdxl";
}

std::string Model::lora_identity() const {
  if (!loras) return {};
  std::string text;
  for (const char* component : {"unet", "text_encoder", "text_encoder_2"}) {
    const std::string part = loras->identity(component);
    if (part.empty()) continue;
    text += fmt::format("{}{}={}", text.empty() ? "" : " ", component, part);
  }
  return text;
}

void Model::check_unchanged() const {
  checkpoint->check_unchanged();
  if (loras) loras->check_unchanged();
}

Model open_model(const ModelOptions& options, const std::string& cache_dir, const Logger& logger) {
  io::OpenOptions open{.variant = options.variant,
                       .hf_cache = {.hf_hub_cache = options.hf_cache,
                                    .hf_home = {},
                                    .xdg_cache_home = {},
                                    .home = {}},
                       .component_folders = {},
                       .config_folder = options.config_folder,
                       .clip_vocab = options.clip_vocab,
                       .hash_cache = cache_dir.empty() ? "" : cache_dir + "/hashes",
                       .logger = logger};
  for (const auto& [component, folder] : options.component_folders) {
    open.component_folders.emplace(component, folder);
  }
  Model model;
  model.checkpoint = io::Checkpoint::open(options.model, open);
  model.facts = pipeline::read_facts(plan_metadata(*model.checkpoint, "unet"),
                                     plan_metadata(*model.checkpoint, "vae_decoder"));
  for (const auto& [component, folder] : options.component_folders) {
    check_replacement(model, component, folder);
  }
  const auto& encoders = pipeline::find_family(model.family()).text_encoders;
  for (const std::string_view encoder : encoders) {
    check_component(*model.checkpoint, std::string(encoder));
    model.tokenizers.push_back(open_tokenizer(*model.checkpoint, std::string(encoder)));
  }
  check_component(*model.checkpoint, "unet");
  check_component(*model.checkpoint, "vae");
  if (!options.loras.empty()) {
    std::vector<io::LoraSpec> specs;
    for (const LoraOption& lora : options.loras) specs.push_back({lora.path, lora.weight});
    model.loras =
        std::make_shared<const io::LoraWeights>(model.checkpoint, specs, open.hf_cache, logger);
  }
  return model;
}

std::string model_hash(const io::Checkpoint& checkpoint) {
  constexpr uint64_t kQuick = uint64_t{512} << 20;  // well under a second
  uint64_t bytes = 0;
  for (const io::ComponentInfo& component : checkpoint.components()) bytes += component.bytes;
  return bytes > kQuick ? std::string() : checkpoint.content_hash();
}

}  // namespace halftone::workflow
