#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// y's axis i is x's axis perm[i].
struct Transpose {
  static constexpr std::string_view kName = "transpose";
  std::vector<int64_t> perm;

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f("perm", self.perm);
  }
  bool operator==(const Transpose&) const = default;
};
std::vector<TensorType> infer(const Transpose& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
