#include "models/clip_text.h"

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
      x = clip_encoder_layer(b, c, true, x);
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
  static_cast<ClipTowerConfig&>(c) = clip_tower_config(
      json, {.channels = 512, .feed_forward_channels = 2048, .num_layers = 12, .heads = 8});
  const int64_t projection = json.integer("projection_dim", 512, 1, kMaxChannels);
  c.projection_channels = with_projection ? projection : 0;
  // Configs written before 2023 say 2, and mean the highest id.
  c.eos_token = json.integer("eos_token_id", 2, 0, c.vocab_size - 1);
  if (c.eos_token == 2) c.eos_token = c.vocab_size - 1;
  ignore_clip_bookkeeping(json);
  json.warn_of_unknown_keys();
  return c;
}

}  // namespace halftone::models
