#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// y[n, i, j, c] = max of x[n, i * stride + a, j * stride + b, c] over a, b in [0, size), for x [n,
// h, w, c]; windows lie inside of x, NaN wins. (torch's max_pool2d(size, stride).)
struct MaxPool {
  static constexpr std::string_view kName = "max_pool";
  int64_t size = 2;
  int64_t stride = 2;

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f("size", self.size);
    f("stride", self.stride);
  }
  bool operator==(const MaxPool&) const = default;
};
std::vector<TensorType> infer(const MaxPool& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
