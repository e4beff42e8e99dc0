#include "models/clip_text.h"

#include <cmath>

#include <fmt/format.h>

#include "halftone/error.h"

#include "models/config_reader.h"

namespace halftone::models {
namespace {

using graph::Role;
using Scope = Builder::Scope;

constexpr int64_t kMaxVocab = 1 << 20;

// CLIPTextEmbeddings.
ValueId embeddings(Builder& b, const ClipTextConfig& c, ValueId input_ids) {
  const Scope scope(b, "embeddings");
  const ValueId tokens = b.op(
      graph::Embedding{}, {{Role::kIndex, input_ids},
                           {Role::kWeight, b.table("token_embedding", c.vocab_size, c.channels)}});
  const ValueId positions =
      b.slice(b.table("position_embedding", c.max_tokens, c.channels), 0, 0, b.shape(input_ids)[1]);
  return b.op(graph::Add{.broadcast_batch = true}, {{Role::kX, tokens}, {Role::kX, positions}});
}

// CLIPAttention, causal.
ValueId self_attention(Builder& b, const ClipTextConfig& c, ValueId x) {
  const Scope scope(b, "self_attn");
  const ValueId q = b.linear("q_proj", x, c.channels);
  const ValueId k = b.linear("k_proj", x, c.channels);
  const ValueId v = b.linear("v_proj", x, c.channels);
  const int64_t head_size = c.channels / c.heads;
  const double scale = 1.0 / std::sqrt(static_cast<double>(head_size));
  const ValueId y = b.attention(q, k, v, {.heads = c.heads, .scale = scale, .causal = true});
  return b.linear("out_proj", y, c.channels);
}

// CLIPMLP.
ValueId feed_forward(Builder& b, const ClipTextConfig& c, ValueId x) {
  const Scope scope(b, "mlp");
  const ValueId h = b.activate(c.activation, b.linear("fc1", x, c.feed_forward_channels));
  return b.linear("fc2", h, c.channels);
}

// CLIPEncoderLayer.
ValueId encoder_layer(Builder& b, const ClipTextConfig& c, ValueId x) {
  x = b.add(self_attention(b, c, b.layer_norm("layer_norm1", x, c.norm_eps)), x);
  return b.add(feed_forward(b, c, b.layer_norm("layer_norm2", x, c.norm_eps)), x);
}

graph::Activation activation(ConfigReader& json) {
  const std::string name = json.text("hidden_act", "quick_gelu");
  if (name == "quick_gelu") return graph::Activation::kQuickGelu;
  if (name == "gelu") return graph::Activation::kGelu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh") return graph::Activation::kGeluTanh;
  json.unsupported("hidden_act",
                   fmt::format("got '{}', only quick_gelu, gelu and gelu_new are supported", name));
}

}  // namespace

graph::Graph build_clip_text(const std::string& component, const ClipTextConfig& c,
                             const BuildShape& shape, const BuildOptions& options) {
  if (shape.text_tokens < 1 || shape.text_tokens > c.max_tokens) {
    throw Error(Errc::kInvalidArgument,
                fmt::format("{}: {} tokens asked for, the model has positions for 1 to {}",
                            component, shape.text_tokens, c.max_tokens));
  }
  const int64_t num_hidden_layers = c.num_layers - options.text_layers_skipped;
  if (options.text_layers_skipped < 0 || num_hidden_layers < 0) {
    throw Error(Errc::kInvalidArgument,
                fmt::format("{}: cannot skip {} of {} layers; lower the CLIP skip", component,
                            options.text_layers_skipped, c.num_layers));
  }

  Builder b(component, options.compute_dtype);
  const ValueId input_ids =
      b.input("input_ids", {DType::kI32, {shape.batch, shape.text_tokens}}, Rate::kStep);
  ValueId hidden = graph::kNoValue;
  ValueId last = graph::kNoValue;
  {
    const Scope scope(b, "text_model");
    ValueId x = embeddings(b, c, input_ids);
    hidden = x;
    for (int64_t i = 0; i < c.num_layers; ++i) {
      const Scope layer(b, "encoder.layers", static_cast<size_t>(i));
      x = encoder_layer(b, c, x);
      if (i + 1 == num_hidden_layers) hidden = x;
    }
    last = b.layer_norm("final_layer_norm", x, c.norm_eps);
    if (options.text_final_norm) {
      hidden = hidden == x ? last : b.layer_norm("final_layer_norm", hidden, c.norm_eps);
    }
  }
  b.output("hidden", hidden);
  if (c.projection_channels > 0) {
    const ValueId eos_index = b.input("eos_index", {DType::kI32, {shape.batch}}, Rate::kStep);
    const ValueId eos_row = b.op(graph::SelectRow{}, {{Role::kX, last}, {Role::kIndex, eos_index}});
    b.output("pooled", b.linear("text_projection", eos_row, c.projection_channels, Bias::kNone));
  }
  return b.take();
}

ClipTextConfig clip_text_config(ConfigReader& json, bool with_projection) {
  ClipTextConfig c;
  c.vocab_size = json.integer("vocab_size", 49408, 1, kMaxVocab);
  c.max_tokens = json.integer("max_position_embeddings", 77, 1, kMaxChannels);
  c.channels = json.integer("hidden_size", 512, 1, kMaxChannels);
  c.feed_forward_channels = json.integer("intermediate_size", 2048, 1, kMaxChannels);
  c.num_layers = json.integer("num_hidden_layers", 12, 1, kMaxLayers);
  c.heads = json.integer("num_attention_heads", 8, 1, kMaxChannels);
  if (c.channels % c.heads != 0) {
    json.fail(
        "num_attention_heads",
        fmt::format("got {} heads for hidden_size {}, wanted a divisor", c.heads, c.channels));
  }
  c.activation = activation(json);
  c.norm_eps = json.positive("layer_norm_eps", 1e-5);
  const int64_t projection = json.integer("projection_dim", 512, 1, kMaxChannels);
  c.projection_channels = with_projection ? projection : 0;
  // Configs written before 2023 say 2, and mean the highest id.
  c.eos_token = json.integer("eos_token_id", 2, 0, c.vocab_size - 1);
  if (c.eos_token == 2) c.eos_token = c.vocab_size - 1;
  json.ignore({"architectures",
               "attention_dropout",
               "bos_token_id",
               "chunk_size_feed_forward",
               "dropout",
               "dtype",
               "gradient_checkpointing",
               "id2label",
               "initializer_factor",
               "initializer_range",
               "is_encoder_decoder",
               "label2id",
               "model_type",
               "output_attentions",
               "output_hidden_states",
               "pad_token_id",
               "problem_type",
               "return_dict",
               "torch_dtype",
               "transformers_version"});
  json.warn_of_unknown_keys();
  return c;
}

}  // namespace halftone::models
