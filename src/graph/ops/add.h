#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// y = a + b. Two kX operands a, b: equal shapes, or b of shape [n, c] added to every inner position
// of batch row n of a [n, ..., c], or b of shape [t, c] with a [n, t, c] when broadcast_batch
// (position embedding). Output has a's type.
struct Add {
  static constexpr std::string_view kName = "add";
  bool broadcast_batch = false;

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f("broadcast_batch", self.broadcast_batch);
  }
  bool operator==(const Add&) const = default;
};
std::vector<TensorType> infer(const Add& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
