#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// Nearest-neighbour enlargement of x [n, h, w, c] to [n, out_h, out_w, c]: source row = floor(i * h
// / out_h) as torch's interpolate(mode="nearest") does.
struct Upsample {
  static constexpr std::string_view kName = "upsample";
  int64_t out_h = 0;
  int64_t out_w = 0;

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f("out_h", self.out_h);
    f("out_w", self.out_w);
  }
  bool operator==(const Upsample&) const = default;
};
std::vector<TensorType> infer(const Upsample& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
