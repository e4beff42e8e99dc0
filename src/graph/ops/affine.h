#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// y = clamp(scale * x + shift, low, high), elementwise (VAE scaling, image range).
struct Affine {
  static constexpr std::string_view kName = "affine";
  double scale = 1.0;
  double shift = 0.0;
  double low = -3.4e38;
  double high = 3.4e38;

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f("scale", self.scale);
    f("shift", self.shift);
    f("low", self.low);
    f("high", self.high);
  }
  bool operator==(const Affine&) const = default;
};
std::vector<TensorType> infer(const Affine& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
