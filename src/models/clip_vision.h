// CLIPModel's picture tower (transformers models/clip/modeling_clip.py: CLIPVisionModel with
// visual_projection), and the config of a whole CLIPModel.
#pragma once

#include "models/build.h"
#include "models/clip_text.h"

namespace halftone::models {

struct ClipVisionConfig : ClipTowerConfig {
  int64_t image_size = 224;  // pixels, square
  int64_t patch_size = 32;
  int64_t projection_channels = 512;

  // Patches and the class token.
  [[nodiscard]] int64_t num_tokens() const {
    const int64_t side = image_size / patch_size;
    return side * side + 1;
  }
};

struct ClipModelConfig {
  ClipTextConfig text;
  ClipVisionConfig vision;
};

// config.json of a CLIPModel: text_config, vision_config, projection_dim. Throws kCorruptFile or
// kUnsupported.
[[nodiscard]] ClipModelConfig clip_model_config(ConfigReader& json);

// Input "pixels" f32[batch, image_size, image_size, 3], normalised; output "pooled" f32[batch,
// projection_channels], not normalised. All kStep. Of `shape` only the batch counts.
[[nodiscard]] graph::Graph build_clip_vision(const std::string& component,
                                             const ClipVisionConfig& config,
                                             const BuildShape& shape, const BuildOptions& options);

}  // namespace halftone::models
