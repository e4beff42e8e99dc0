#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// Amax of x, an optional operand kAmax of Quantize where a dynamic scale is per_tensor and there is
// no gamma; what makes x may make it: f32 [ceil(rows / 64), ceil(c / 80)]. Line i holds the largest
// magnitudes of parts of x's rows [64 i, 64 i + 64), of the elements as they are stored; together
// the parts are those rows. Which part an element belongs to is its maker's choice: the largest of
// a line is what counts. With it x need not be searched. NaNs are passed over, here as in amax:
// they keep their codes.
inline constexpr int64_t kAmaxRows = 64;
inline constexpr int64_t kAmaxColumns = 80;
[[nodiscard]] TensorType amax_type(const Shape& x);

// q = clamp(rne(v * (1/scale)) + zero, low, high), v = float(x) * gamma[c] when kGamma is given,
// else float(x). Arithmetic as in tensor/quantized.h.
//   dtype i8:     low, high of `bits`-bit signed integers (narrow: without the lowest); one a byte.
//   dtype u8:     the same integers (bits 2 or 4) packed: y [..., c * bits / 8].
//   dtype f8e4m3: saturating round to nearest even; bits is 8; no zero point.
// Granularity says which elements share a scale, and its shape:
//   per_tensor f32[1], per_channel f32[x.shape[0]] (axis 0), per_token f32[rows] (rows = all axes
//   but the last), uniform f32[x.shape[0]] (one scale for all, repeated: weights).
// Static: operand kXScale gives the scale (finite, > 0). Dynamic: scale = max(amax / largest,
// 1e-12), amax = max |v| of the group, and is the second output, f32.
// Operands: kX floating [..., c], kXScale unless dynamic, optional kGamma [c] (smoothing), optional
// kXZero i32[1] (static integers, per_tensor only).
struct Quantize {
  static constexpr std::string_view kName = "quantize";
  DType dtype = DType::kI8;
  int64_t bits = 8;
  Granularity granularity = Granularity::kPerTensor;
  bool dynamic = false;
  bool narrow = false;

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f("dtype", self.dtype);
    f("bits", self.bits);
    f("granularity", self.granularity);
    f("dynamic", self.dynamic);
    f("narrow", self.narrow);
  }
  bool operator==(const Quantize&) const = default;
};
std::vector<TensorType> infer(const Quantize& op, std::span<const TypedOperand> in);

// y = scale * (q - zero), one float product rounded to dtype. Operands: kX i8, f8e4m3 or packed u8
// with `bits`, kXScale in the granularity's shape, optional kXZero i32[1].
struct Dequantize {
  static constexpr std::string_view kName = "dequantize";
  DType dtype = DType::kF32;
  int64_t bits = 8;
  Granularity granularity = Granularity::kPerTensor;

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f("dtype", self.dtype);
    f("bits", self.bits);
    f("granularity", self.granularity);
  }
  bool operator==(const Dequantize&) const = default;
};
std::vector<TensorType> infer(const Dequantize& op, std::span<const TypedOperand> in);

// Types that Quantize makes and quantized ops read. `bits` of a packed weight follow from its row:
// 8 * weight.row / x.row.
[[nodiscard]] bool is_quantized(DType dtype);
// Shape of the scale of a tensor.
[[nodiscard]] Shape scale_shape(Granularity granularity, const Shape& x);

// The operands of a linear or convolution, checked: x, weight and their scales.
//   x floating, weight floating: no scales (a plain op).
//   x floating, weight i8, f8e4m3 or packed u8, kWScale: weight-only.
//   x i8, weight i8 or packed u8, kXScale and kWScale: integer, accumulated exactly in int32.
//   x f8e4m3, weight f8e4m3, kXScale and kWScale.
// kWScale f32[weight.shape[0]]; kXScale f32[1], or f32[rows of x] where per_token_x. All rows of a
// packed weight hold weight.row * 8 / bits elements; x_channels is that number.
// Epilogue of an op with kWScale, each step a float operation rounded on its own:
//   s = x_scale * w_scale[o] (w_scale[o] alone when weight-only); v = float(acc) * s;
//   v = v + bias[o]; v = v + row_add[n, o]; v = activation(v), or geglu: v * gelu(gate);
//   v = v + residual; then y = rne(v) to `out`, or with kYScale (f32[1]) y = Quantize of v to i8
//   (range [-128, 127]) or f8e4m3, static and per tensor.
// So integer kernels equal the reference bit for bit unless an activation stands between (there the
// float before the last rounding may differ by a few ulp, a requantized value by one step). f8
// products are summed in float32 in the kernel's order; the reference sums in double.
// `out` is y's type when x is quantized or kYScale is given; else y has x's type and out stays f32.
// kYScale also ends a plain op: the float result, then Quantize.
void check_quantized_operands(std::string_view op, std::span<const TypedOperand> in,
                              bool per_token_x);
// The element type of y by the rule above; refuses an `out` that does not fit.
[[nodiscard]] DType output_dtype(std::string_view op, std::span<const TypedOperand> in, DType out);
// Elements in a weight row that multiply x's channels (unpacked).
[[nodiscard]] int64_t unpacked_row(std::string_view op, const TensorType& x,
                                   const TensorType& weight);

// Outputs of a norm. `out` i8 or f8e4m3: the float result ends in Quantize (8 bits, range
// [-128, 127]), static by kYScale or dynamic with the scale as second output; else y has x's type.
// The result is not rounded to x's type in between. Norm kernels sum in their own order: a
// quantized value may differ from the reference's by one step.
[[nodiscard]] std::vector<TensorType> quantized_norm_outputs(std::string_view op,
                                                             std::span<const TypedOperand> in,
                                                             DType out, Granularity granularity,
                                                             bool dynamic);
[[nodiscard]] constexpr size_t num_norm_outputs(bool dynamic) { return dynamic ? 2 : 1; }

}  // namespace halftone::graph
