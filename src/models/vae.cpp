#include "models/vae.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "models/config_reader.h"

namespace halftone::models {
namespace {

using Scope = Builder::Scope;

constexpr int64_t kImageChannels = 3;
// DiagonalGaussianDistribution clamps the logarithm of the variance.
constexpr double kMinLogvar = -30.0;
constexpr double kMaxLogvar = 20.0;

// Attention of the mid block: one head over all positions.
ValueId attention_block(Builder& b, const VaeConfig& c, ValueId x) {
  const Scope scope(b, "attentions.0");
  const Shape image = b.shape(x);
  const int64_t channels = image[-1];
  const ValueId h = to_tokens(b, b.group_norm("group_norm", x, c.norm.groups, c.norm.eps));
  const ValueId q = b.linear("to_q", h, channels);
  const ValueId k = b.linear("to_k", h, channels);
  const ValueId v = b.linear("to_v", h, channels);
  const double scale = 1.0 / std::sqrt(static_cast<double>(channels));
  const ValueId y =
      b.linear("to_out.0", b.attention(q, k, v, {.heads = 1, .scale = scale}), channels);
  return b.reshape(b.add(y, to_tokens(b, x)), image.dims());
}

ValueId resnet(Builder& b, const VaeConfig& c, size_t index, ValueId x, int64_t channels) {
  const Scope scope(b, "resnets", index);
  return resnet_block(b, c.norm, x, graph::kNoValue, channels);
}

// UNetMidBlock2D.
ValueId mid_block(Builder& b, const VaeConfig& c, ValueId x) {
  const Scope scope(b, "mid_block");
  const int64_t channels = b.channels(x);
  x = resnet(b, c, 0, x, channels);
  if (c.mid_attention) x = attention_block(b, c, x);
  return resnet(b, c, 1, x, channels);
}

// DownEncoderBlock2D; the stride-2 convolution pads only below and to the right.
ValueId down_block(Builder& b, const VaeConfig& c, size_t level, ValueId x) {
  const Scope scope(b, "down_blocks", level);
  for (size_t i = 0; i < static_cast<size_t>(c.layers_per_block); ++i) {
    x = resnet(b, c, i, x, c.channels[level]);
  }
  if (level + 1 == c.channels.size()) return x;
  return b.conv2d("downsamplers.0.conv", x,
                  {.channels = c.channels[level], .stride = 2, .pad_begin = 0, .pad_end = 1});
}

// UpDecoderBlock2D.
ValueId up_block(Builder& b, const VaeConfig& c, size_t index, ValueId x) {
  const Scope scope(b, "up_blocks", index);
  const size_t level = c.channels.size() - 1 - index;
  for (size_t i = 0; i <= static_cast<size_t>(c.layers_per_block); ++i) {
    x = resnet(b, c, i, x, c.channels[level]);
  }
  if (level == 0) return x;
  const Scope upsampler(b, "upsamplers.0");
  const Shape size = b.shape(x);
  return upsample_block(b, x, 2 * size[1], 2 * size[2]);
}

ValueId decoder(Builder& b, const VaeConfig& c, ValueId z) {
  const Scope scope(b, "decoder");
  ValueId x = b.conv2d("conv_in", z, conv3x3(c.channels.back()));
  x = mid_block(b, c, x);
  for (size_t i = 0; i < c.channels.size(); ++i) x = up_block(b, c, i, x);
  x = b.silu(b.group_norm("conv_norm_out", x, c.norm.groups, c.norm.eps));
  return b.conv2d("conv_out", x, conv3x3(kImageChannels));
}

ValueId encoder(Builder& b, const VaeConfig& c, ValueId image) {
  const Scope scope(b, "encoder");
  ValueId x = b.conv2d("conv_in", image, conv3x3(c.channels.front()));
  for (size_t i = 0; i < c.channels.size(); ++i) x = down_block(b, c, i, x);
  x = mid_block(b, c, x);
  x = b.silu(b.group_norm("conv_norm_out", x, c.norm.groups, c.norm.eps));
  return b.conv2d("conv_out", x, conv3x3(2 * c.latent_channels));
}

}  // namespace

graph::Graph build_vae_decoder(const VaeConfig& c, const BuildShape& shape,
                               const BuildOptions& options) {
  Builder b("vae", options.compute_dtype);
  const ValueId latent =
      b.input("latent", {DType::kF32, {shape.batch, shape.height, shape.width, c.latent_channels}},
              Rate::kStep);
  ValueId z =
      b.compute(b.affine(latent, {.scale = 1.0 / c.scaling_factor, .shift = c.shift_factor}));
  if (c.use_post_quant_conv) z = b.conv2d("post_quant_conv", z, conv1x1(c.latent_channels));
  const ValueId image = b.cast(decoder(b, c, z), DType::kF32);  // in [-1, 1]
  const ValueId inside = b.affine(image, {.scale = 0.5, .shift = 0.5, .low = 0.0, .high = 1.0});
  b.output("image", inside);
  b.output_bytes(inside);
  return b.take();
}

graph::Graph build_vae_encoder(const VaeConfig& c, const BuildShape& shape,
                               const BuildOptions& options) {
  Builder b("vae", options.compute_dtype);
  const int64_t f = c.scale_factor();
  const ValueId image = b.input(
      "image", {DType::kF32, {shape.batch, shape.height * f, shape.width * f, kImageChannels}},
      Rate::kStep);
  ValueId moments = encoder(b, c, b.compute(b.affine(image, {.scale = 2.0, .shift = -1.0})));
  if (c.use_quant_conv) moments = b.conv2d("quant_conv", moments, conv1x1(2 * c.latent_channels));
  moments = b.cast(moments, DType::kF32);
  b.output("mean", b.slice(moments, -1, 0, c.latent_channels));
  b.output("logvar", b.affine(b.slice(moments, -1, c.latent_channels, 2 * c.latent_channels),
                              {.low = kMinLogvar, .high = kMaxLogvar}));
  return b.take();
}

VaeConfig vae_config(ConfigReader& json) {
  json.expect("act_fn", {"silu", "swish"});
  json.expect("latents_mean", {});
  json.expect("latents_std", {});
  json.expect("in_channels", {kImageChannels});
  json.expect("out_channels", {kImageChannels});

  VaeConfig config;
  config.latent_channels = json.integer("latent_channels", 4, 1, kMaxChannels);
  config.channels = json.channel_list("block_out_channels");
  config.norm.groups = json.integer("norm_num_groups", 32, 1, kMaxChannels);
  check_groups(json, "block_out_channels", config.channels, config.norm.groups);
  const auto expect_types = [&](std::string_view key, std::string_view only) {
    for (const std::string& type : json.text_list(key, config.channels.size())) {
      if (type != only) {
        json.unsupported(key, fmt::format("got '{}', only {} is supported", type, only));
      }
    }
  };
  expect_types("down_block_types", "DownEncoderBlock2D");
  expect_types("up_block_types", "UpDecoderBlock2D");
  config.layers_per_block = json.integer("layers_per_block", 1, 1, kMaxLayers);
  config.mid_attention = json.boolean("mid_block_add_attention", true);
  config.use_quant_conv = json.boolean("use_quant_conv", true);
  config.use_post_quant_conv = json.boolean("use_post_quant_conv", true);
  config.scaling_factor = json.positive("scaling_factor", 0.18215);
  config.shift_factor = json.number("shift_factor", 0.0);
  config.force_upcast = json.boolean("force_upcast", true);
  config.sample_size = json.square_size("sample_size", 32);
  json.warn_of_unknown_keys();
  return config;
}

}  // namespace halftone::models
