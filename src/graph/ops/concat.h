#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// Joins its kX operands (in order) along `axis` (negative counts from the end).
struct Concat {
  static constexpr std::string_view kName = "concat";
  int64_t axis = -1;

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f("axis", self.axis);
  }
  bool operator==(const Concat&) const = default;
};
std::vector<TensorType> infer(const Concat& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
