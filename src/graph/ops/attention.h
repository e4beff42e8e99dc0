#pragma once

#include "graph/ops/linear.h"

namespace halftone::graph {

// y = softmax(scale * q k^T + mask) v per head. kQ [b, tq, heads*d], kK and kV [b, tk, heads*d];
// head h owns channels [h*d, (h+1)*d). causal: query i sees keys 0..i (tq == tk). Softmax and
// accumulation in fp32 at least. Inputs may be pitched (slices of a merged QKV). Output [b, tq,
// heads*d], q's dtype, or `out` when q is quantized.
// With kYScale (f32[1]) y is the static Quantize per tensor of the result in float, to `out` i8 or
// f8e4m3; it is not rounded to q's type before.
//
// Instead of kQ it may take kX [b, tq, in] and kWeight [heads*d, in], and kXScale and kWScale where
// they are codes, all as a Linear does (graph/ops/linear.h): then q is that Linear's result,
// rounded to k's type, which is floating; x that is floating has k's type.
//
// In 8 bits, each part for itself:
//   q and k both i8 or both f8e4m3, with kQScale and kKScale: f32[1], or one for each head's part
//   of a token, f32[b*t*heads] with the head fastest. Then s_ij = scale * s_q * s_k * sum(q k).
//   v f8e4m3 with kVScale f32[1].
//   probabilities = f8e4m3: p_ij = exp(s_ij - max_j s_ij), in (0, 1], is rounded as Quantize does
//   with the scale 1/448; the sum that divides is that of the p_ij themselves:
//     y_i = (s_v / 448) * sum_j f8(448 p_ij) v_j / sum_j p_ij.
// A kernel that meets keys piece by piece may round relative to the largest score so far: each
// weight then differs by at most one code. With kYScale too, y is the codes of such a sum.
struct Attention {
  static constexpr std::string_view kName = "attention";
  int64_t heads = 1;
  double scale = 1.0;
  bool causal = false;
  DType probabilities = DType::kF32;  // or f8e4m3
  DType out = DType::kF32;            // of y when q is quantized or kYScale is given

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f("heads", self.heads);
    f("scale", self.scale);
    f("causal", self.causal);
    f("probabilities", self.probabilities, DType::kF32);
    f("out", self.out, DType::kF32);
  }
  bool operator==(const Attention&) const = default;
};
std::vector<TensorType> infer(const Attention& op, std::span<const TypedOperand> in);
// Whether it computes q from x.
[[nodiscard]] bool projects_queries(std::span<const TypedOperand> in);
// The operands of an attention that computes q which are those of the linear for it.
[[nodiscard]] bool is_of_query_linear(Role role);
// That linear.
[[nodiscard]] Linear query_linear(std::span<const TypedOperand> in);
// Whether any part of it but its result, and what q is computed from, is in 8 bits.
[[nodiscard]] bool is_quantized(const Attention& op, std::span<const TypedOperand> in);

// y = x - mean of x over axis 1, for x [b, t, c]: keys without what all tokens share. Scores change
// by the same amount for every key, so softmax does not change, and what is left is smaller. The
// mean is summed in fp32 at least; y is rounded once to x's type. Operand kX.
struct Center {
  static constexpr std::string_view kName = "center";

  template <class Self, class F>
  static void fields(Self& /*self*/, F&& /*f*/) {}
  bool operator==(const Center&) const = default;
};
std::vector<TensorType> infer(const Center& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
