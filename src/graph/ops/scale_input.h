#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// The denoiser's input: y [copies*n, h, w, c] = input_scale * state[0], repeated `copies` times
// along the batch (2 for classifier-free guidance). Operands kState, kCoefficients. f32.
struct ScaleInput {
  static constexpr std::string_view kName = "scale_input";
  int64_t copies = 1;

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f("copies", self.copies);
  }
  bool operator==(const ScaleInput&) const = default;
};
std::vector<TensorType> infer(const ScaleInput& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
