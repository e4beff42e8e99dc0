#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// y = x * gamma[i], i the index along `axis` (0 or -1): smoothing factors on weight rows or columns
// and on norm parameters. One float product, rounded to x's type. Operands kX, kGamma.
struct Scale {
  static constexpr std::string_view kName = "scale";
  int64_t axis = -1;

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f("axis", self.axis);
  }
  bool operator==(const Scale&) const = default;
};
std::vector<TensorType> infer(const Scale& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
