#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// y = softmax(scale * q k^T + mask) v per head. kQ [b, tq, heads*d], kK and kV [b, tk, heads*d];
// head h owns channels [h*d, (h+1)*d). causal: query i sees keys 0..i (tq == tk). Softmax and
// accumulation in fp32 at least. Inputs may be pitched (slices of a merged QKV). Output [b, tq,
// heads*d], q's dtype.
struct Attention {
  static constexpr std::string_view kName = "attention";
  int64_t heads = 1;
  double scale = 1.0;
  bool causal = false;

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f("heads", self.heads);
    f("scale", self.scale);
    f("causal", self.causal);
  }
  bool operator==(const Attention&) const = default;
};
std::vector<TensorType> infer(const Attention& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
