#include "models/blocks.h"

namespace halftone::models {

ValueId resnet_block(Builder& b, const NormConfig& norm, ValueId x, ValueId time,
                     int64_t channels) {
  const bool reshapes = b.channels(x) != channels;
  // First, so that a wide x (sample and skip joined) need not outlive norm1.
  const ValueId shortcut = reshapes ? b.conv2d("conv_shortcut", x, conv1x1(channels)) : x;
  ValueId h = b.silu(b.group_norm("norm1", x, norm.groups, norm.eps));
  h = b.conv2d("conv1", h, conv3x3(channels));
  if (time != graph::kNoValue) h = b.add(h, b.linear("time_emb_proj", time, channels));
  h = b.silu(b.group_norm("norm2", h, norm.groups, norm.eps));
  return b.add(b.conv2d("conv2", h, conv3x3(channels)), shortcut);
}

ValueId upsample_block(Builder& b, ValueId x, int64_t height, int64_t width) {
  const ValueId large = b.op(graph::Upsample{height, width}, {{graph::Role::kX, x}});
  return b.conv2d("conv", large, conv3x3(b.channels(x)));
}

ValueId to_tokens(Builder& b, ValueId x) {
  const Shape s = b.shape(x);
  return b.reshape(x, {s[0], s[1] * s[2], s[3]});
}

}  // namespace halftone::models
