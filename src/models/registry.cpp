#include "models/registry.h"

#include <array>
#include <cctype>

#include <fmt/format.h>

#include "models/clip_text.h"
#include "models/clip_vision.h"
#include "models/denoise_step.h"
#include "models/vae.h"

namespace halftone::models {
namespace {

std::string text(int64_t value) { return fmt::format("{}", value); }
std::string text(double value) { return fmt::format("{}", value); }
std::string text(bool value) { return value ? "true" : "false"; }

Metadata clip_text_metadata(const ClipTextConfig& c) {
  return {{"channels", text(c.channels)},      {"max_tokens", text(c.max_tokens)},
          {"vocab_size", text(c.vocab_size)},  {"num_layers", text(c.num_layers)},
          {"eos_token_id", text(c.eos_token)}, {"pooled_channels", text(c.projection_channels)}};
}

template <bool kWithProjection>
const Model clip_model(std::string_view class_name) {
  return {class_name, "text_encoder",
          [](std::string_view component, ConfigReader& json, const BuildShape& shape,
             const BuildOptions& options) {
            return build_clip_text(std::string(component), clip_text_config(json, kWithProjection),
                                   shape, options);
          },
          [](ConfigReader& json) {
            return clip_text_metadata(clip_text_config(json, kWithProjection));
          }};
}
const Model clip_text_model = clip_model<false>("CLIPTextModel");
const Model clip_text_model_with_projection = clip_model<true>("CLIPTextModelWithProjection");

// The pair of towers that scores pictures against texts.
const Model clip_model_text = {
    "CLIPModel", "clip_text",
    [](std::string_view, ConfigReader& json, const BuildShape& shape, const BuildOptions& options) {
      return build_clip_text("clip", clip_model_config(json).text, shape, options);
    },
    [](ConfigReader& json) { return clip_text_metadata(clip_model_config(json).text); }};

const Model clip_model_vision = {
    "CLIPModel", "clip_vision",
    [](std::string_view, ConfigReader& json, const BuildShape& shape, const BuildOptions& options) {
      return build_clip_vision("clip", clip_model_config(json).vision, shape, options);
    },
    [](ConfigReader& json) {
      const ClipVisionConfig c = clip_model_config(json).vision;
      return Metadata{{"image_size", text(c.image_size)},
                      {"pooled_channels", text(c.projection_channels)}};
    }};

Metadata unet_metadata(ConfigReader& json) {
  const UNetConfig c = unet_config(json);
  const UNetAddEmbedding add = c.add_embedding.value_or(
      UNetAddEmbedding{.time_ids_channels = 0, .num_time_ids = 0, .pooled_channels = 0});
  return {{"latent_channels", text(c.in_channels)},
          {"sample_size", text(c.sample_size)},
          {"context_channels", text(c.context_channels)},
          {"addition_embed_type", c.add_embedding ? "text_time" : ""},
          {"pooled_channels", text(add.pooled_channels)},
          {"num_time_ids", text(add.num_time_ids)},
          {"time_ids_channels", text(add.time_ids_channels)}};
}

const Model unet_2d_condition_model = {
    "UNet2DConditionModel", "unet",
    [](std::string_view, ConfigReader& json, const BuildShape& shape, const BuildOptions& options) {
      return build_denoise_step(unet_config(json), shape, options);
    },
    unet_metadata};

Metadata vae_metadata(ConfigReader& json) {
  const VaeConfig c = vae_config(json);
  return {
      {"latent_channels", text(c.latent_channels)}, {"vae_scale_factor", text(c.scale_factor())},
      {"scaling_factor", text(c.scaling_factor)},   {"shift_factor", text(c.shift_factor)},
      {"force_upcast", text(c.force_upcast)},       {"sample_size", text(c.sample_size)}};
}

const Model autoencoder_kl_decoder = {
    "AutoencoderKL", "vae_decoder",
    [](std::string_view, ConfigReader& json, const BuildShape& shape, const BuildOptions& options) {
      return build_vae_decoder(vae_config(json), shape, options);
    },
    vae_metadata};

const Model autoencoder_kl_encoder = {
    "AutoencoderKL", "vae_encoder",
    [](std::string_view, ConfigReader& json, const BuildShape& shape, const BuildOptions& options) {
      return build_vae_encoder(vae_config(json), shape, options);
    },
    vae_metadata};

constexpr std::array kModels = {
#define HALFTONE_MODEL(name) &name,
#include "models/models.inc"
#undef HALFTONE_MODEL
};

// "text_encoder_2" -> "text_encoder".
std::string_view part_of(std::string_view component) {
  const size_t digit = component.size() - 1;
  const bool is_numbered = component.size() > 2 && component[digit - 1] == '_' &&
                           std::isdigit(static_cast<unsigned char>(component[digit])) != 0;
  return is_numbered ? component.substr(0, digit - 1) : component;
}

void check_shape(const Model& model, const BuildShape& shape) {
  const bool has_latents = model.part == "unet" || model.part.starts_with("vae");
  const int64_t min_extent = has_latents ? 1 : 0;
  const bool fits = shape.batch >= 1 && shape.height >= min_extent && shape.width >= min_extent &&
                    shape.text_tokens >= 1 && shape.batch <= kMaxBatch &&
                    shape.height <= kMaxLatentExtent && shape.width <= kMaxLatentExtent &&
                    shape.text_tokens <= kMaxTokens;
  if (!fits) {
    throw Error(
        Errc::kInvalidArgument,
        fmt::format("shape: got batch {}, latent {}x{}, {} tokens; wanted a batch of 1 to {}, "
                    "latents of {} to {} each way, 1 to {} tokens",
                    shape.batch, shape.width, shape.height, shape.text_tokens, kMaxBatch,
                    min_extent, kMaxLatentExtent, kMaxTokens));
  }
}

}  // namespace

std::span<const Model* const> all_models() { return kModels; }

const Model& find_model(std::string_view component, std::string_view class_name) {
  std::string known;
  for (const Model* model : kModels) {
    if (model->part != part_of(component)) continue;
    if (model->class_name == class_name) return *model;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", model->class_name);
  }
  throw Error(Errc::kUnsupported,
              known.empty() ? fmt::format("{}: no model is known for this component", component)
                            : fmt::format("{}: class '{}' is not supported, only {}", component,
                                          class_name, known));
}

std::string class_name_of(const Json& config) {
  if (const Json* name = config.find("_class_name"); name != nullptr && name->if_string()) {
    return *name->if_string();
  }
  const Json* list = config.find("architectures");
  if (list == nullptr || list->if_array() == nullptr || list->if_array()->empty()) return "";
  const std::string* first = list->if_array()->front().if_string();
  return first == nullptr ? "" : *first;
}

graph::Graph build(std::string_view component, std::string_view class_name, const JsonView& config,
                   const BuildShape& shape, const BuildOptions& options, const Logger& logger) {
  const Model& model = find_model(component, class_name);
  check_shape(model, shape);
  ConfigReader json(config, logger);
  graph::Graph graph = model.build(component, json, shape, options);
  verify(graph);
  return graph;
}

Metadata metadata(std::string_view component, std::string_view class_name, const JsonView& config) {
  const Model& model = find_model(component, class_name);
  ConfigReader json(config);
  Metadata keys = model.metadata(json);
  keys.emplace("component", component);
  keys.emplace("class", class_name);
  return keys;
}

}  // namespace halftone::models
