// UNet2DConditionModel of SD 1.5, SDXL and SDXL-Turbo (diffusers
// models/unets/unet_2d_condition.py).
#pragma once

#include <optional>
#include <vector>

#include "models/blocks.h"
#include "models/build.h"

namespace halftone::models {

class ConfigReader;

// One resolution, the finest first: a down block and the up block that mirrors it.
struct UNetLevel {
  int64_t channels = 0;
  int64_t num_layers = 0;  // resnets of the down block; the up block has one more
  int64_t heads = 1;
  // Transformer blocks after each resnet; empty for a block without attention.
  std::vector<int64_t> down_transformers;
  std::vector<int64_t> up_transformers;
  bool operator==(const UNetLevel&) const = default;
};

// addition_embed_type "text_time": pooled text and size conditioning join the time embedding.
struct UNetAddEmbedding {
  int64_t time_ids_channels = 256;  // sinusoid of one number (addition_time_embed_dim)
  int64_t num_time_ids = 6;         // original size, crop, target size
  int64_t pooled_channels = 1280;
  bool operator==(const UNetAddEmbedding&) const = default;
};

struct UNetConfig {
  int64_t in_channels = 4;
  int64_t out_channels = 4;
  int64_t sample_size = 64;  // of the latents it was trained with
  std::vector<UNetLevel> levels;
  int64_t context_channels = 1280;  // of the text encoders
  bool has_mid_block = true;
  int64_t mid_transformers = 1;
  NormConfig norm;
  bool use_linear_projection = false;
  bool flip_sin_to_cos = true;
  double freq_shift = 0.0;
  int64_t time_channels = 0;  // width of the time embedding
  std::optional<UNetAddEmbedding> add_embedding;
};

// Reads and checks config.json; throws kCorruptFile for impossible values and kUnsupported for
// options that would change the computation.
[[nodiscard]] UNetConfig unet_config(ConfigReader& json);

// Values of the graph that the UNet reads. Floats in the compute dtype, but for timestep and
// time_ids.
struct UNetInputs {
  ValueId sample;                         // [n, h, w, in_channels]
  ValueId timestep;                       // f32[1]
  ValueId encoder_hidden_states;          // [n, tokens, context_channels]
  ValueId text_embeds = graph::kNoValue;  // [n, pooled_channels], with add_embedding
  ValueId time_ids = graph::kNoValue;     // f32[n, num_time_ids], with add_embedding
};

// Declares the conditioning inputs: "timestep" f32[1] kSchedule, "encoder_hidden_states"
// f32[n, text_tokens, context] and, with add_embedding, "text_embeds" f32[n, pooled] and "time_ids"
// f32[n, num_time_ids], kPrompt. n = shape.model_batch(). `sample` is f32.
[[nodiscard]] UNetInputs unet_inputs(Builder& b, const UNetConfig& config, const BuildShape& shape,
                                     ValueId sample);

// BasicTransformerBlock: self-attention, cross-attention and a GEGLU feed-forward over tokens
// x [n, t, c]; text [n, tokens, context_channels].
[[nodiscard]] ValueId transformer_block(Builder& b, ValueId x, ValueId text, int64_t heads);

// The model's output [n, h, w, out_channels] in the compute dtype.
[[nodiscard]] ValueId unet(Builder& b, const UNetConfig& config, const UNetInputs& in);

// The bare model: input "sample" f32[n, h, w, in_channels] kStep, output "model_output" f32. For
// comparison with other implementations; plans hold denoise_step.h's graph.
[[nodiscard]] graph::Graph build_unet(const UNetConfig& config, const BuildShape& shape,
                                      const BuildOptions& options);

}  // namespace halftone::models
