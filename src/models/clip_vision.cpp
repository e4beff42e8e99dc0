#include "models/clip_vision.h"

#include <vector>

#include <fmt/format.h>

#include "models/blocks.h"
#include "models/config_reader.h"

namespace halftone::models {
namespace {

using graph::Role;
using Scope = Builder::Scope;

constexpr int64_t kMaxImageSize = 4096;

// CLIPVisionEmbeddings: the class token before the patches, row by row.
ValueId embeddings(Builder& b, const ClipVisionConfig& c, ValueId pixels) {
  const Scope scope(b, "embeddings");
  const Conv conv{.channels = c.channels,
                  .kernel = c.patch_size,
                  .stride = c.patch_size,
                  .pad_begin = 0,
                  .pad_end = 0};
  const ValueId patches = to_tokens(b, b.conv2d("patch_embedding", pixels, conv, Bias::kNone));
  const ValueId token = b.reshape(b.parameter("class_embedding", {c.channels}), {1, 1, c.channels});
  const auto batch = static_cast<size_t>(b.shape(pixels)[0]);
  const ValueId first = batch == 1 ? token : b.concat(std::vector<ValueId>(batch, token), 0);
  const ValueId x = b.concat({first, patches}, 1);
  const ValueId positions = b.table("position_embedding", c.num_tokens(), c.channels);
  return b.op(graph::Add{.broadcast_batch = true}, {{Role::kX, x}, {Role::kX, positions}});
}

// The tower's own object in config.json; old files keep it under "<key>_dict".
JsonView tower_config(ConfigReader& json, const std::string& key) {
  const std::optional<JsonView> old = json.find(key + "_dict");
  if (const std::optional<JsonView> tower = json.find(key)) return *tower;
  if (old) return *old;
  json.fail(key, "is missing, wanted an object; give the folder of a whole CLIPModel");
}

ClipVisionConfig vision_config(ConfigReader json) {
  ClipVisionConfig c;
  static_cast<ClipTowerConfig&>(c) = clip_tower_config(json, {});
  c.image_size = json.integer("image_size", c.image_size, 1, kMaxImageSize);
  c.patch_size = json.integer("patch_size", c.patch_size, 1, c.image_size);
  json.expect("num_channels", {3});
  json.ignore({"projection_dim"});
  ignore_clip_bookkeeping(json);
  json.warn_of_unknown_keys();
  return c;
}

}  // namespace

ClipModelConfig clip_model_config(ConfigReader& json) {
  ConfigReader text(tower_config(json, "text_config"));
  ClipModelConfig c{.text = clip_text_config(text, false),
                    .vision = vision_config(ConfigReader(tower_config(json, "vision_config")))};
  const int64_t projection = json.integer("projection_dim", 512, 1, kMaxChannels);
  c.text.projection_channels = projection;
  c.vision.projection_channels = projection;
  json.ignore({"logit_scale_init_value"});
  ignore_clip_bookkeeping(json);
  json.warn_of_unknown_keys();
  return c;
}

graph::Graph build_clip_vision(const std::string& component, const ClipVisionConfig& c,
                               const BuildShape& shape, const BuildOptions& options) {
  Builder b(component, options.compute_dtype);
  const ValueId pixels =
      b.input("pixels", {DType::kF32, {shape.batch, c.image_size, c.image_size, 3}}, Rate::kStep);
  ValueId pooled = graph::kNoValue;
  {
    const Scope scope(b, "vision_model");
    ValueId x = b.layer_norm("pre_layrnorm", embeddings(b, c, b.compute(pixels)), c.norm_eps);
    for (int64_t i = 0; i < c.num_layers; ++i) {
      const Scope layer(b, "encoder.layers", static_cast<size_t>(i));
      x = clip_encoder_layer(b, c, false, x);
    }
    const ValueId token = b.reshape(b.slice(x, 1, 0, 1), {shape.batch, c.channels});
    pooled = b.layer_norm("post_layernorm", token, c.norm_eps);
  }
  b.output("pooled", b.linear("visual_projection", pooled, c.projection_channels, Bias::kNone));
  return b.take();
}

}  // namespace halftone::models
