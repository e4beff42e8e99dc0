#include "io/released_configs.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace halftone::io {
namespace {

// As published with stabilityai/stable-diffusion-xl-base-1.0, stabilityai/sdxl-turbo and
// stable-diffusion-v1-5, without keys that name versions, state training settings or have their
// default value null. A model is a base document and what differs from it.
constexpr std::string_view kIndex = R"({
  "_class_name": "StableDiffusionXLPipeline",
  "force_zeros_for_empty_prompt": true,
  "scheduler": ["diffusers", "EulerDiscreteScheduler"],
  "text_encoder": ["transformers", "CLIPTextModel"],
  "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
  "tokenizer": ["transformers", "CLIPTokenizer"],
  "tokenizer_2": ["transformers", "CLIPTokenizer"],
  "unet": ["diffusers", "UNet2DConditionModel"],
  "vae": ["diffusers", "AutoencoderKL"]
})";

constexpr std::string_view kScheduler = R"({
  "_class_name": "EulerDiscreteScheduler",
  "beta_end": 0.012,
  "beta_schedule": "scaled_linear",
  "beta_start": 0.00085,
  "clip_sample": false,
  "interpolation_type": "linear",
  "num_train_timesteps": 1000,
  "prediction_type": "epsilon",
  "sample_max_value": 1.0,
  "set_alpha_to_one": false,
  "skip_prk_steps": true,
  "steps_offset": 1,
  "timestep_spacing": "leading",
  "use_karras_sigmas": false
})";

constexpr std::string_view kUNet = R"({
  "_class_name": "UNet2DConditionModel",
  "act_fn": "silu",
  "addition_embed_type": "text_time",
  "addition_embed_type_num_heads": 64,
  "addition_time_embed_dim": 256,
  "attention_head_dim": [5, 10, 20],
  "block_out_channels": [320, 640, 1280],
  "center_input_sample": false,
  "cross_attention_dim": 2048,
  "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
  "downsample_padding": 1,
  "dual_cross_attention": false,
  "flip_sin_to_cos": true,
  "freq_shift": 0,
  "in_channels": 4,
  "layers_per_block": 2,
  "mid_block_scale_factor": 1,
  "mid_block_type": "UNetMidBlock2DCrossAttn",
  "norm_eps": 1e-05,
  "norm_num_groups": 32,
  "only_cross_attention": false,
  "out_channels": 4,
  "projection_class_embeddings_input_dim": 2816,
  "resnet_time_scale_shift": "default",
  "sample_size": 128,
  "time_embedding_type": "positional",
  "transformer_layers_per_block": [1, 2, 10],
  "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
  "use_linear_projection": true
})";

constexpr std::string_view kVae = R"({
  "_class_name": "AutoencoderKL",
  "act_fn": "silu",
  "block_out_channels": [128, 256, 512, 512],
  "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
  "force_upcast": true,
  "in_channels": 3,
  "latent_channels": 4,
  "layers_per_block": 2,
  "norm_num_groups": 32,
  "out_channels": 3,
  "sample_size": 1024,
  "scaling_factor": 0.13025,
  "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]
})";

// CLIP ViT-L/14.
constexpr std::string_view kTextEncoder = R"({
  "architectures": ["CLIPTextModel"],
  "bos_token_id": 0,
  "eos_token_id": 2,
  "hidden_act": "quick_gelu",
  "hidden_size": 768,
  "intermediate_size": 3072,
  "layer_norm_eps": 1e-05,
  "max_position_embeddings": 77,
  "model_type": "clip_text_model",
  "num_attention_heads": 12,
  "num_hidden_layers": 12,
  "pad_token_id": 1,
  "projection_dim": 768,
  "vocab_size": 49408
})";

// One document of one family: the base and a difference, in which null removes a key.
struct Row {
  std::string_view family, document, base;
  std::string_view difference = "{}";
};
constexpr std::array kRows{
    Row{"sdxl", "model_index", kIndex}, Row{"sdxl", "scheduler", kScheduler},
    Row{"sdxl", "unet", kUNet}, Row{"sdxl", "vae", kVae}, Row{"sdxl", "text_encoder", kTextEncoder},
    // OpenCLIP ViT-bigG/14
    Row{"sdxl", "text_encoder_2", kTextEncoder,
        R"({"architectures": ["CLIPTextModelWithProjection"], "hidden_act": "gelu",
            "hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 20,
            "num_hidden_layers": 32, "projection_dim": 1280})"},
    Row{"sdxl-turbo", "model_index", kIndex,
        R"({"feature_extractor": [null, null], "image_encoder": [null, null],
            "scheduler": ["diffusers", "EulerAncestralDiscreteScheduler"]})"},
    Row{"sdxl-turbo", "scheduler", kScheduler,
        R"({"_class_name": "EulerAncestralDiscreteScheduler", "timestep_spacing": "trailing",
            "use_karras_sigmas": null})"},
    Row{"sdxl-turbo", "unet", kUNet, R"({"sample_size": 64})"},
    Row{"sd15", "model_index", kIndex,
        R"({"_class_name": "StableDiffusionPipeline", "force_zeros_for_empty_prompt": null,
            "feature_extractor": [null, null], "safety_checker": [null, null],
            "scheduler": ["diffusers", "PNDMScheduler"], "text_encoder_2": null,
            "tokenizer_2": null})"},
    Row{"sd15", "scheduler", kScheduler,
        R"({"_class_name": "PNDMScheduler", "interpolation_type": null, "prediction_type": null,
            "sample_max_value": null, "timestep_spacing": null, "use_karras_sigmas": null})"},
    Row{"sd15", "unet", kUNet,
        R"({"addition_embed_type": null, "addition_embed_type_num_heads": null,
            "addition_time_embed_dim": null, "attention_head_dim": 8,
            "block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 768,
            "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D",
                                 "CrossAttnDownBlock2D", "DownBlock2D"],
            "dual_cross_attention": null, "mid_block_type": null, "only_cross_attention": null,
            "projection_class_embeddings_input_dim": null, "resnet_time_scale_shift": null,
            "sample_size": 64, "time_embedding_type": null, "transformer_layers_per_block": null,
            "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D",
                               "CrossAttnUpBlock2D"],
            "use_linear_projection": null})"},
    Row{"sd15", "vae", kVae,
        R"({"force_upcast": null, "sample_size": 512, "scaling_factor": 0.18215})"},
    Row{"sd15", "text_encoder", kTextEncoder}};

const Row* find_row(std::string_view family, std::string_view document) {
  const auto row = std::ranges::find_if(
      kRows, [&](const Row& r) { return r.family == family && r.document == document; });
  if (row != kRows.end()) return &*row;
  // What Turbo does not change is the base model's.
  return family == "sdxl-turbo" ? find_row("sdxl", document) : nullptr;
}

}  // namespace

std::optional<Json> released_config(std::string_view family, std::string_view document) {
  const Row* row = find_row(family, document);
  if (row == nullptr) return std::nullopt;
  const std::string where = fmt::format("built-in {} config of {}", document, family);
  const Json base = parse_json(row->base, where);
  const Json difference = parse_json(row->difference, where);
  Json config = Json::object();
  for (const auto& [key, value] : *base.if_object()) {
    const Json* other = difference.find(key);
    if (other == nullptr || !other->is_null()) config.set(key, other == nullptr ? value : *other);
  }
  for (const auto& [key, value] : *difference.if_object()) {
    if (!value.is_null() && base.find(key) == nullptr) config.set(key, value);
  }
  return config;
}

}  // namespace halftone::io
