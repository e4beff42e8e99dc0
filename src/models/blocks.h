// Modules that the UNet and the VAE share (diffusers models/resnet.py, downsampling.py,
// upsampling.py).
#pragma once

#include "models/builder.h"

namespace halftone::models {

// GroupNorm as a whole model uses it.
struct NormConfig {
  int64_t groups = 32;
  double eps = 1e-5;
};

// ResnetBlock2D. `time` is SiLU(time embedding) [n, width], or graph::kNoValue in the VAE.
ValueId resnet_block(Builder& b, const NormConfig& norm, ValueId x, ValueId time, int64_t channels);

// Upsample2D with convolution: nearest neighbour to height x width, then "conv".
ValueId upsample_block(Builder& b, ValueId x, int64_t height, int64_t width);

// [n,h,w,c] -> [n,h*w,c], free.
ValueId to_tokens(Builder& b, ValueId x);

}  // namespace halftone::models
