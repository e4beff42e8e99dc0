#include "models/unet.h"

#include <cmath>

namespace halftone::models {
namespace {

using graph::Role;
using Scope = Builder::Scope;

constexpr double kTransformerGroupNormEps = 1e-6;
constexpr double kTransformerLayerNormEps = 1e-5;
constexpr int64_t kFeedForwardFactor = 4;

// What every block sees beside the sample.
struct Conditioning {
  ValueId time;  // SiLU(time embedding) [n, time_channels]: each resnet applies this SiLU first
  ValueId text;  // [n, tokens, context_channels]
};

// TimestepEmbedding: a two-layer MLP.
ValueId timestep_embedding(Builder& b, std::string_view name, ValueId x, int64_t channels) {
  const Scope scope(b, name);
  return b.linear("linear_2", b.silu(b.linear("linear_1", x, channels)), channels);
}

ValueId sinusoid(Builder& b, const UNetConfig& c, ValueId x, int64_t channels) {
  return b.op(
      graph::Sinusoidal{
          .dim = channels, .flip_sin_to_cos = c.flip_sin_to_cos, .freq_shift = c.freq_shift},
      {{Role::kX, x}});
}

// "text_time": MLP([pooled text, sinusoids of the time ids]) [n, time_channels].
ValueId add_embedding(Builder& b, const UNetConfig& c, const UNetInputs& in) {
  const UNetAddEmbedding& add = *c.add_embedding;
  const int64_t n = b.shape(in.time_ids)[0];
  const ValueId ids = b.reshape(sinusoid(b, c, in.time_ids, add.time_ids_channels),
                                {n, add.num_time_ids * add.time_ids_channels});
  return timestep_embedding(b, "add_embedding", b.concat({in.text_embeds, b.compute(ids)}, -1),
                            c.time_channels);
}

// The embedding of time (and size) for each batch row [n, time_channels]. The timestep is one
// number for the whole batch, so its MLP runs on one row.
ValueId time_embedding(Builder& b, const UNetConfig& c, const UNetInputs& in) {
  const int64_t n = b.shape(in.sample)[0];
  const ValueId wave = b.compute(sinusoid(b, c, in.timestep, c.levels.front().channels));
  const ValueId time = timestep_embedding(b, "time_embedding", wave, c.time_channels);
  if (!c.add_embedding) return b.concat(std::vector<ValueId>(static_cast<size_t>(n), time), 0);

  const ValueId added = b.reshape(add_embedding(b, c, in), {n, 1, c.time_channels});
  const ValueId sum =
      b.op(graph::Add{.broadcast_batch = true}, {{Role::kX, added}, {Role::kX, time}});
  return b.reshape(sum, {n, c.time_channels});
}

// Attention: self-attention when context is x.
ValueId attention(Builder& b, std::string_view name, ValueId x, ValueId context, int64_t heads) {
  const Scope scope(b, name);
  const int64_t channels = b.channels(x);
  const ValueId q = b.linear("to_q", x, channels, Bias::kNone);
  const ValueId k = b.linear("to_k", context, channels, Bias::kNone);
  const ValueId v = b.linear("to_v", context, channels, Bias::kNone);
  const int64_t head_size = channels / heads;
  const double scale = 1.0 / std::sqrt(static_cast<double>(head_size));
  return b.linear("to_out.0", b.attention(q, k, v, {.heads = heads, .scale = scale}), channels);
}

// FeedForward with GEGLU.
ValueId feed_forward(Builder& b, std::string_view name, ValueId x) {
  const Scope scope(b, name);
  const int64_t channels = b.channels(x);
  const ValueId h = b.linear("net.0.proj", x, 2 * kFeedForwardFactor * channels);
  return b.linear("net.2", b.op(graph::Geglu{}, {{Role::kX, h}}), channels);
}

}  // namespace

ValueId transformer_block(Builder& b, ValueId x, ValueId text, int64_t heads) {
  ValueId h = b.layer_norm("norm1", x, kTransformerLayerNormEps);
  x = b.add(attention(b, "attn1", h, h, heads), x);
  h = b.layer_norm("norm2", x, kTransformerLayerNormEps);
  x = b.add(attention(b, "attn2", h, text, heads), x);
  h = b.layer_norm("norm3", x, kTransformerLayerNormEps);
  return b.add(feed_forward(b, "ff", h), x);
}

namespace {

// Transformer2DModel. A linear projection and a 1x1 convolution compute the same; checkpoints
// differ in the shape of the weight.
ValueId transformer(Builder& b, const UNetConfig& c, const UNetLevel& level, int64_t num_blocks,
                    ValueId x, ValueId text) {
  const Shape image = b.shape(x);
  ValueId h = b.group_norm("norm", x, c.norm.groups, kTransformerGroupNormEps);
  h = c.use_linear_projection ? b.linear("proj_in", to_tokens(b, h), level.channels)
                              : to_tokens(b, b.conv2d("proj_in", h, conv1x1(level.channels)));
  for (int64_t i = 0; i < num_blocks; ++i) {
    const Scope scope(b, "transformer_blocks", static_cast<size_t>(i));
    h = transformer_block(b, h, text, level.heads);
  }
  if (c.use_linear_projection) {
    h = b.add(b.linear("proj_out", h, level.channels), to_tokens(b, x));
    return b.reshape(h, image.dims());
  }
  return b.add(b.conv2d("proj_out", b.reshape(h, image.dims()), conv1x1(level.channels)), x);
}

ValueId resnet(Builder& b, const UNetConfig& c, const UNetLevel& level, size_t index, ValueId x,
               const Conditioning& cond) {
  const Scope scope(b, "resnets", index);
  return resnet_block(b, c.norm, x, cond.time, level.channels);
}

ValueId attend(Builder& b, const UNetConfig& c, const UNetLevel& level, size_t index,
               int64_t num_blocks, ValueId x, const Conditioning& cond) {
  const Scope scope(b, "attentions", index);
  return transformer(b, c, level, num_blocks, x, cond.text);
}

// DownBlock2D, CrossAttnDownBlock2D. Appends what the up path will want.
ValueId down_block(Builder& b, const UNetConfig& c, const UNetLevel& level, bool is_last, ValueId x,
                   const Conditioning& cond, std::vector<ValueId>& skips) {
  for (size_t i = 0; i < static_cast<size_t>(level.num_layers); ++i) {
    x = resnet(b, c, level, i, x, cond);
    if (!level.down_transformers.empty()) {
      x = attend(b, c, level, i, level.down_transformers[i], x, cond);
    }
    skips.push_back(x);
  }
  if (!is_last) {
    Conv stride2 = conv3x3(level.channels);
    stride2.stride = 2;
    x = b.conv2d("downsamplers.0.conv", x, stride2);
    skips.push_back(x);
  }
  return x;
}

// UNetMidBlock2DCrossAttn.
ValueId mid_block(Builder& b, const UNetConfig& c, ValueId x, const Conditioning& cond) {
  const UNetLevel& level = c.levels.back();
  x = resnet(b, c, level, 0, x, cond);
  x = attend(b, c, level, 0, c.mid_transformers, x, cond);
  return resnet(b, c, level, 1, x, cond);
}

// UpBlock2D, CrossAttnUpBlock2D. Takes its skips from the end, and enlarges to the size of the next
// one: twice the size, or one less where an odd size was rounded up on the way down.
ValueId up_block(Builder& b, const UNetConfig& c, const UNetLevel& level, bool is_last, ValueId x,
                 const Conditioning& cond, std::vector<ValueId>& skips) {
  for (size_t i = 0; i <= static_cast<size_t>(level.num_layers); ++i) {
    x = resnet(b, c, level, i, b.concat({x, skips.back()}, -1), cond);
    skips.pop_back();
    if (!level.up_transformers.empty()) {
      x = attend(b, c, level, i, level.up_transformers[i], x, cond);
    }
  }
  if (!is_last) {
    const Scope scope(b, "upsamplers.0");
    const Shape size = b.shape(skips.back());
    x = upsample_block(b, x, size[1], size[2]);
  }
  return x;
}

}  // namespace

UNetInputs unet_inputs(Builder& b, const UNetConfig& config, const BuildShape& shape,
                       ValueId sample) {
  const int64_t n = shape.model_batch();
  UNetInputs in{.sample = b.compute(sample),
                .timestep = b.input("timestep", {DType::kF32, {1}}, Rate::kSchedule),
                .encoder_hidden_states = graph::kNoValue};
  in.encoder_hidden_states = b.compute(
      b.input("encoder_hidden_states",
              {DType::kF32, {n, shape.text_tokens, config.context_channels}}, Rate::kPrompt));
  if (config.add_embedding) {
    const UNetAddEmbedding& add = *config.add_embedding;
    in.text_embeds =
        b.compute(b.input("text_embeds", {DType::kF32, {n, add.pooled_channels}}, Rate::kPrompt));
    in.time_ids = b.input("time_ids", {DType::kF32, {n, add.num_time_ids}}, Rate::kPrompt);
  }
  return in;
}

ValueId unet(Builder& b, const UNetConfig& c, const UNetInputs& in) {
  const Conditioning cond{.time = b.silu(time_embedding(b, c, in)),
                          .text = in.encoder_hidden_states};
  const size_t num_levels = c.levels.size();

  ValueId x = b.conv2d("conv_in", in.sample, conv3x3(c.levels.front().channels));

  std::vector<ValueId> skips{x};
  for (size_t i = 0; i < num_levels; ++i) {
    const Scope scope(b, "down_blocks", i);
    x = down_block(b, c, c.levels[i], i + 1 == num_levels, x, cond, skips);
  }
  if (c.has_mid_block) {
    const Scope scope(b, "mid_block");
    x = mid_block(b, c, x, cond);
  }
  for (size_t i = 0; i < num_levels; ++i) {
    const Scope scope(b, "up_blocks", i);
    x = up_block(b, c, c.levels[num_levels - 1 - i], i + 1 == num_levels, x, cond, skips);
  }

  x = b.silu(b.group_norm("conv_norm_out", x, c.norm.groups, c.norm.eps));
  return b.conv2d("conv_out", x, conv3x3(c.out_channels));
}

graph::Graph build_unet(const UNetConfig& config, const BuildShape& shape,
                        const BuildOptions& options) {
  Builder b("unet", options.compute_dtype);
  const ValueId sample = b.input(
      "sample", {DType::kF32, {shape.model_batch(), shape.height, shape.width, config.in_channels}},
      Rate::kStep);
  b.output("model_output", unet(b, config, unet_inputs(b, config, shape, sample)));
  return b.take();
}

}  // namespace halftone::models
