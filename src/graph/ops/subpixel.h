#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// Nearest enlargement by 2 followed by a 3x3 convolution with padding 1 equals one 2x2 convolution
// of the small image with padding 1 and four times the outputs (one set an output parity p, q),
// whose results are interleaved: 16 products an input pixel instead of 36.
//
// The weight of it: x f32 [out, 3, 3, in] to f32 [4 out, 2, 2, in],
// y[(2p+q) out + o, a, b] = sum of x[o, r, s] over r in R(p,a), s in R(q,b), where
// R(0,0) = {0}, R(0,1) = {1,2}, R(1,0) = {0,1}, R(1,1) = {2}. Summed in double, rounded once.
struct SubpixelWeight {
  static constexpr std::string_view kName = "subpixel_weight";
  template <class Self, class F>
  static void fields(Self& /*self*/, F&& /*f*/) {}
  bool operator==(const SubpixelWeight&) const = default;
};
std::vector<TensorType> infer(const SubpixelWeight& op, std::span<const TypedOperand> in);

// First and last tap of a 3x3 kernel's axis that fall together: R(parity, tap).
struct SubpixelTaps {
  int first, last;
};
[[nodiscard]] constexpr SubpixelTaps subpixel_taps(int parity, int tap) {
  if (parity == 0) return tap == 0 ? SubpixelTaps{0, 0} : SubpixelTaps{1, 2};
  return tap == 0 ? SubpixelTaps{0, 1} : SubpixelTaps{2, 2};
}

// The results interleaved: x [n, h+1, w+1, 4c] to [n, 2h, 2w, c] of the same element type,
// y[n, 2i+p, 2j+q, k] = x[n, i+p, j+q, (2p+q) c + k].
struct SubpixelMerge {
  static constexpr std::string_view kName = "subpixel_merge";
  template <class Self, class F>
  static void fields(Self& /*self*/, F&& /*f*/) {}
  bool operator==(const SubpixelMerge&) const = default;
};
std::vector<TensorType> infer(const SubpixelMerge& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
