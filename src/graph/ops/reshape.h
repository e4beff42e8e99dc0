#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// Same elements in memory order under another shape; free at run time.
struct Reshape {
  static constexpr std::string_view kName = "reshape";
  std::vector<int64_t> shape;

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f("shape", self.shape);
  }
  bool operator==(const Reshape&) const = default;
};
std::vector<TensorType> infer(const Reshape& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
