#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// Classifier-free guidance: x [2n, ...] = [uncond; cond], y [n, ...] = u + guidance * (c - u).
// Operands kX, kCoefficients. f32.
struct Guidance {
  static constexpr std::string_view kName = "guidance";

  template <class Self, class F>
  static void fields(Self&, F&&) {}
  bool operator==(const Guidance&) const = default;
};
std::vector<TensorType> infer(const Guidance& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
