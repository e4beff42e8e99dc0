#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// y[..., c] = weight[index[...], c]. Operands kIndex i32[...], kWeight [rows, c]. An index out of
// range is an error when running (kInvalidArgument).
struct Embedding {
  static constexpr std::string_view kName = "embedding";

  template <class Self, class F>
  static void fields(Self&, F&&) {}
  bool operator==(const Embedding&) const = default;
};
std::vector<TensorType> infer(const Embedding& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
