#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// The bytes of a picture: y u8 = rne(255 * clamp(x, 0, 1)), NaN gives 0, of x f32; and f32[1], 1
// when a value of x is not finite, else 0.
struct ToBytes {
  static constexpr std::string_view kName = "to_bytes";
  template <class Self, class F>
  static void fields(Self& /*self*/, F&& /*f*/) {}
  bool operator==(const ToBytes&) const = default;
};
std::vector<TensorType> infer(const ToBytes& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
