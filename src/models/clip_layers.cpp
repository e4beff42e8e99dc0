#include "models/clip_layers.h"

#include <cmath>

#include <fmt/format.h>

#include "models/config_reader.h"

namespace halftone::models {
namespace {

using Scope = Builder::Scope;

// CLIPAttention.
ValueId self_attention(Builder& b, const ClipTowerConfig& c, bool causal, ValueId x) {
  const Scope scope(b, "self_attn");
  const ValueId q = b.linear("q_proj", x, c.channels);
  const ValueId k = b.linear("k_proj", x, c.channels);
  const ValueId v = b.linear("v_proj", x, c.channels);
  const int64_t head_size = c.channels / c.heads;
  const double scale = 1.0 / std::sqrt(static_cast<double>(head_size));
  const ValueId y = b.attention(q, k, v, {.heads = c.heads, .scale = scale, .causal = causal});
  return b.linear("out_proj", y, c.channels);
}

// CLIPMLP.
ValueId feed_forward(Builder& b, const ClipTowerConfig& c, ValueId x) {
  const Scope scope(b, "mlp");
  const ValueId h = b.activate(c.activation, b.linear("fc1", x, c.feed_forward_channels));
  return b.linear("fc2", h, c.channels);
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

ClipTowerConfig clip_tower_config(ConfigReader& json, const ClipTowerConfig& defaults) {
  ClipTowerConfig c;
  c.channels = json.integer("hidden_size", defaults.channels, 1, kMaxChannels);
  c.feed_forward_channels =
      json.integer("intermediate_size", defaults.feed_forward_channels, 1, kMaxChannels);
  c.num_layers = json.integer("num_hidden_layers", defaults.num_layers, 1, kMaxLayers);
  c.heads = json.integer("num_attention_heads", defaults.heads, 1, kMaxChannels);
  if (c.channels % c.heads != 0) {
    json.fail(
        "num_attention_heads",
        fmt::format("got {} heads for hidden_size {}, wanted a divisor", c.heads, c.channels));
  }
  c.activation = activation(json);
  c.norm_eps = json.positive("layer_norm_eps", defaults.norm_eps);
  return c;
}

void ignore_clip_bookkeeping(ConfigReader& json) {
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
}

ValueId clip_encoder_layer(Builder& b, const ClipTowerConfig& c, bool causal, ValueId x) {
  x = b.add(self_attention(b, c, causal, b.layer_norm("layer_norm1", x, c.norm_eps)), x);
  return b.add(feed_forward(b, c, b.layer_norm("layer_norm2", x, c.norm_eps)), x);
}

}  // namespace halftone::models
