#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// y[n, c] = x[n, index[n], c]: the pooled token of each batch row. Operands kX [n, t, c], kIndex
// i32[n].
struct SelectRow {
  static constexpr std::string_view kName = "select_row";

  template <class Self, class F>
  static void fields(Self&, F&&) {}
  bool operator==(const SelectRow&) const = default;
};
std::vector<TensorType> infer(const SelectRow& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
