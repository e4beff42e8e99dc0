#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// Cross-correlation, channels last: x [n, h, w, in], weight [out, kh, kw, in].
// y = act(conv(x) + bias[o] + row_add[n, o]) + residual. Zero padding, pad_begin before and pad_end
// after both spatial axes (they differ only in the VAE encoder's downsampler: 0 and 1).
// Quantized forms take kXScale (f32[1]), kWScale, kYScale: types, arithmetic and `out` as in
// graph/ops/quantize.h; the padding is the real 0.
// `interleaved`: y is SubpixelMerge (graph/ops/subpixel.h) of that; no row add, no residual.
// `statistics_groups` > 0: a second output, group statistics of y (graph/ops/group_norm.h); y is
// floating and not interleaved.
// `amax`: a second output, amax of y (graph/ops/quantize.h), on the same terms; not both.
struct Conv2d {
  static constexpr std::string_view kName = "conv2d";
  int64_t stride = 1;
  int64_t pad_begin = 0;
  int64_t pad_end = 0;
  Activation activation = Activation::kNone;
  DType out = DType::kF32;
  bool interleaved = false;
  int64_t statistics_groups = 0;
  bool amax = false;

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f("stride", self.stride);
    f("pad_begin", self.pad_begin);
    f("pad_end", self.pad_end);
    f("activation", self.activation);
    f("out", self.out, DType::kF32);
    f("interleaved", self.interleaved, false);
    f("statistics_groups", self.statistics_groups, int64_t{0});
    f("amax", self.amax, false);
  }
  bool operator==(const Conv2d&) const = default;
};
std::vector<TensorType> infer(const Conv2d& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
