// CLIPTextModel and CLIPTextModelWithProjection (transformers models/clip/modeling_clip.py): CLIP-L
// of SD 1.5 and SDXL, OpenCLIP bigG of SDXL.
#pragma once

#include "models/build.h"
#include "models/builder.h"
#include "models/clip_layers.h"

namespace halftone::models {

struct ClipTextConfig : ClipTowerConfig {
  int64_t vocab_size = 49408;
  int64_t max_tokens = 77;
  int64_t projection_channels = 0;  // 0: no text_projection (CLIPTextModel)
  int64_t eos_token = 49407;
};

// Throws kCorruptFile or kUnsupported. `with_projection`: the class is CLIPTextModelWithProjection.
[[nodiscard]] ClipTextConfig clip_text_config(ConfigReader& json, bool with_projection);

// Inputs "input_ids" i32[batch, text_tokens] and, with a projection, "eos_index" i32[batch]: the
// position of each row's first end-of-text token. Outputs "hidden" f32[batch, text_tokens,
// channels], chosen by `options`, and, with a projection, "pooled" f32[batch, projection_channels].
// All kStep.
[[nodiscard]] graph::Graph build_clip_text(const std::string& component,
                                           const ClipTextConfig& config, const BuildShape& shape,
                                           const BuildOptions& options);

}  // namespace halftone::models
