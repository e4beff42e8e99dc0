// What CLIP's two towers share (transformers models/clip/modeling_clip.py): the encoder's layers.
#pragma once

#include "models/builder.h"

namespace halftone::models {

class ConfigReader;

// One tower's encoder.
struct ClipTowerConfig {
  int64_t channels = 768;
  int64_t feed_forward_channels = 3072;
  int64_t num_layers = 12;
  int64_t heads = 12;
  graph::Activation activation = graph::Activation::kQuickGelu;
  double norm_eps = 1e-5;
};

// Reads the keys above; absent ones are as in `defaults`. Throws kCorruptFile or kUnsupported.
[[nodiscard]] ClipTowerConfig clip_tower_config(ConfigReader& json,
                                                const ClipTowerConfig& defaults);
// Keys of either tower that change nothing here.
void ignore_clip_bookkeeping(ConfigReader& json);

// CLIPEncoderLayer on [batch, tokens, channels]; `causal`: a token sees those before it.
ValueId clip_encoder_layer(Builder& b, const ClipTowerConfig& config, bool causal, ValueId x);

}  // namespace halftone::models
