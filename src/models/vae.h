// AutoencoderKL (diffusers models/autoencoders/autoencoder_kl.py, vae.py): decoder and encoder.
#pragma once

#include <vector>

#include "models/blocks.h"
#include "models/build.h"

namespace halftone::models {

class ConfigReader;

struct VaeConfig {
  int64_t latent_channels = 4;
  std::vector<int64_t> channels;  // of the levels, the finest first
  int64_t layers_per_block = 1;   // resnets of an encoder level; a decoder level has one more
  NormConfig norm{.groups = 32, .eps = 1e-6};
  bool mid_attention = true;
  bool use_quant_conv = true;
  bool use_post_quant_conv = true;
  double scaling_factor = 0.18215;  // the denoiser's latent = (z - shift_factor) * scaling_factor
  double shift_factor = 0.0;
  bool force_upcast = true;  // the weights overflow fp16
  int64_t sample_size = 32;

  // Image extent / latent extent.
  [[nodiscard]] int64_t scale_factor() const { return int64_t{1} << (channels.size() - 1); }
};

// Throws kCorruptFile or kUnsupported.
[[nodiscard]] VaeConfig vae_config(ConfigReader& json);

// Input "latent" f32[batch, height, width, latent_channels] as the denoiser leaves it, kStep.
// Outputs "image" f32[batch, height * f, width * f, 3] in [0, 1], f = scale_factor(), and of it
// "rgb" u8 and "not_finite" f32[1] (graph/ops/to_bytes.h).
[[nodiscard]] graph::Graph build_vae_decoder(const VaeConfig& config, const BuildShape& shape,
                                             const BuildOptions& options);

// Input "image" f32[batch, height * f, width * f, 3] in [0, 1], kStep. Outputs "mean" and "logvar"
// f32[batch, height, width, latent_channels] of z, before shift and scaling factor.
[[nodiscard]] graph::Graph build_vae_encoder(const VaeConfig& config, const BuildShape& shape,
                                             const BuildOptions& options);

}  // namespace halftone::models
