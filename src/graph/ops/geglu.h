#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// y[..., c] = x[..., c] * gelu_erf(x[..., C + c]) for x [..., 2C].
struct Geglu {
  static constexpr std::string_view kName = "geglu";

  template <class Self, class F>
  static void fields(Self&, F&&) {}
  bool operator==(const Geglu&) const = default;
};
std::vector<TensorType> infer(const Geglu& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
