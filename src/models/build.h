// What every builder takes: the concrete shape to build for and how to compute.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace halftone::models {

inline constexpr int64_t kMaxBatch = 1024;
inline constexpr int64_t kMaxLatentExtent = 8192;
inline constexpr int64_t kMaxTokens = 4096;

// One shape profile. Each component reads the fields it needs.
struct BuildShape {
  int64_t batch = 1;   // images; prompts for a text encoder
  int64_t height = 0;  // of the latent: image height / VAE scale factor
  int64_t width = 0;   // of the latent
  int64_t text_tokens = 77;
  bool cfg = false;  // classifier-free guidance: the denoiser runs [uncond; cond], 2 * batch

  [[nodiscard]] int64_t model_batch() const { return cfg ? 2 * batch : batch; }
};

struct BuildOptions {
  DType compute_dtype = DType::kF32;  // f32, bf16 or f16
  // Which state of a text encoder is "hidden": so many last layers are left out, and whether the
  // final LayerNorm follows. SD 1.5: clip_skip layers, with norm. SDXL: 1 + clip_skip layers,
  // without.
  int64_t text_layers_skipped = 0;
  bool text_final_norm = true;
};

}  // namespace halftone::models
