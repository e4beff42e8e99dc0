#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// Converts the element type between floating types.
struct Cast {
  static constexpr std::string_view kName = "cast";
  DType dtype = DType::kF32;

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f("dtype", self.dtype);
  }
  bool operator==(const Cast&) const = default;
};
std::vector<TensorType> infer(const Cast& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
