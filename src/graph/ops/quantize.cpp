#include "graph/ops/quantize.h"

#include <fmt/format.h>

namespace halftone::graph {
namespace {

bool is_width(int64_t bits) { return bits == 2 || bits == 4 || bits == 8; }

void require_scale(std::string_view op, const TensorType& scale, const Shape& shape,
                   std::string_view role) {
  require(scale.dtype == DType::kF32 && scale.shape == shape, op,
          fmt::format("{} is {}, wanted {}", role, to_string(scale),
                      to_string(TensorType{DType::kF32, shape})));
}

// The first axis of a vector is its last one: a scale for each of its indices would be one for each
// element.
void require_granularity(std::string_view op, Granularity granularity, const Shape& x) {
  require(granularity != Granularity::kPerColumn, op, "no scale per column");
  const bool by_row =
      granularity == Granularity::kPerChannel || granularity == Granularity::kUniform;
  require(x.rank() >= (by_row ? 2 : 1), op,
          fmt::format("no scale for each index of the first axis of {}", to_string(x)));
}

void require_amax(const Quantize& op, std::span<const TypedOperand> in) {
  const TensorType* amax = find_operand(in, Role::kAmax);
  if (amax == nullptr) return;
  require(op.dynamic && op.granularity == Granularity::kPerTensor &&
              find_operand(in, Role::kGamma) == nullptr,
          "quantize", "amax is for a dynamic scale per tensor, without gamma");
  const TensorType wanted = amax_type(need_operand(in, Role::kX, "quantize").shape);
  require(*amax == wanted, "quantize",
          fmt::format("amax is {}, wanted {}", to_string(*amax), to_string(wanted)));
}

void require_zero(std::string_view op, std::span<const TypedOperand> in, bool allowed) {
  const TensorType* zero = find_operand(in, Role::kXZero);
  if (zero == nullptr) return;
  require(allowed && *zero == TensorType{DType::kI32, {1}}, op,
          "a zero point is i32[1], for integers per tensor with a static scale");
}

}  // namespace

bool is_quantized(DType dtype) {
  return dtype == DType::kI8 || dtype == DType::kU8 || dtype == DType::kF8E4M3;
}

TensorType amax_type(const Shape& x) {
  return {DType::kF32,
          {(x.num_rows() + kAmaxRows - 1) / kAmaxRows,
           (x.row_size() + kAmaxColumns - 1) / kAmaxColumns}};
}

Shape scale_shape(Granularity granularity, const Shape& x) {
  switch (granularity) {
    case Granularity::kPerTensor:
      return {1};
    case Granularity::kPerChannel:
    case Granularity::kUniform:
      return {x[0]};
    case Granularity::kPerToken:
      return {x.num_rows()};
    case Granularity::kPerColumn:
      return {x[-1]};
  }
  return {1};
}

std::vector<TensorType> infer(const Quantize& op, std::span<const TypedOperand> in) {
  const TensorType& x = need_operand(in, Role::kX, "quantize");
  require(is_floating(x.dtype) && !is_quantized(x.dtype) && x.shape.rank() >= 1, "quantize",
          fmt::format("x is {}, wanted a floating tensor", to_string(x)));
  require_granularity("quantize", op.granularity, x.shape);
  const bool fits = op.dtype == DType::kI8       ? is_width(op.bits)
                    : op.dtype == DType::kU8     ? op.bits == 2 || op.bits == 4
                    : op.dtype == DType::kF8E4M3 ? op.bits == 8
                                                 : false;
  require(fits, "quantize", fmt::format("no {} bits in {}", op.bits, to_string(op.dtype)));
  TensorType y{op.dtype, x.shape};
  if (op.dtype == DType::kU8) {
    require(x.shape[-1] * op.bits % 8 == 0, "quantize",
            fmt::format("rows of {} elements do not fill bytes", x.shape[-1]));
    y.shape[-1] = x.shape[-1] * op.bits / 8;
  }
  if (const TensorType* gamma = find_operand(in, Role::kGamma)) {
    require(is_floating(gamma->dtype) && gamma->shape == Shape{x.shape[-1]}, "quantize",
            "gamma must be [channels]");
  }
  require_zero(
      "quantize", in,
      op.dtype != DType::kF8E4M3 && !op.dynamic && op.granularity == Granularity::kPerTensor);
  require_amax(op, in);
  const Shape scale = scale_shape(op.granularity, x.shape);
  if (op.dynamic) {
    require(find_operand(in, Role::kXScale) == nullptr, "quantize",
            "a dynamic scale is no operand");
    return {y, {DType::kF32, scale}};
  }
  require_scale("quantize", need_operand(in, Role::kXScale, "quantize"), scale, "x_scale");
  return {y};
}

std::vector<TensorType> infer(const Dequantize& op, std::span<const TypedOperand> in) {
  const TensorType& x = need_operand(in, Role::kX, "dequantize");
  require(is_quantized(x.dtype) && x.shape.rank() >= 1 && is_width(op.bits) &&
              (op.bits < 8 || x.dtype != DType::kU8),
          "dequantize", fmt::format("no {} bits in {}", op.bits, to_string(x)));
  require(is_floating(op.dtype) && !is_quantized(op.dtype), "dequantize", "makes floating types");
  require_granularity("dequantize", op.granularity, x.shape);
  TensorType y{op.dtype, x.shape};
  if (x.dtype == DType::kU8) y.shape[-1] = x.shape[-1] * 8 / op.bits;
  require_scale("dequantize", need_operand(in, Role::kXScale, "dequantize"),
                scale_shape(op.granularity, x.shape), "x_scale");
  require_zero("dequantize", in,
               x.dtype != DType::kF8E4M3 && op.granularity == Granularity::kPerTensor);
  return {y};
}

void check_quantized_operands(std::string_view op, std::span<const TypedOperand> in,
                              bool per_token_x) {
  const TensorType& x = need_operand(in, Role::kX, op);
  const TensorType& weight = need_operand(in, Role::kWeight, op);
  require(x.shape.rank() >= 1 && weight.shape.rank() >= 2, op,
          "wants x [..., in], weight [out, ..., in]");
  const TensorType* x_scale = find_operand(in, Role::kXScale);
  const TensorType* w_scale = find_operand(in, Role::kWScale);
  const bool quantized_x = is_quantized(x.dtype);
  const bool quantized_w = is_quantized(weight.dtype);
  const bool pair = !quantized_x || (x.dtype == DType::kI8 && weight.dtype != DType::kF8E4M3) ||
                    (x.dtype == DType::kF8E4M3 && weight.dtype == DType::kF8E4M3);
  require(pair && (quantized_w || !quantized_x), op,
          fmt::format("x {} does not multiply weight {}", to_string(x), to_string(weight)));
  require((x_scale != nullptr) == quantized_x, op, "x_scale goes with a quantized x");
  require((w_scale != nullptr) == quantized_w, op, "w_scale goes with a quantized weight");
  if (quantized_w) require_scale(op, *w_scale, {weight.shape[0]}, "w_scale");
  if (!quantized_x) return;
  const bool tokens = per_token_x && x_scale->shape == Shape{x.shape.num_rows()};
  require_scale(op, *x_scale, tokens ? x_scale->shape : Shape{1}, "x_scale");
}

DType output_dtype(std::string_view op, std::span<const TypedOperand> in, DType out) {
  const TensorType& x = need_operand(in, Role::kX, op);
  if (const TensorType* y_scale = find_operand(in, Role::kYScale)) {
    require_scale(op, *y_scale, {1}, "y_scale");
    require(out == DType::kI8 || out == DType::kF8E4M3, op, "with y_scale out is i8 or f8e4m3");
    return out;
  }
  require(is_floating(out) && !is_quantized(out), op, "without y_scale out is a floating type");
  if (is_quantized(x.dtype)) return out;
  require(out == DType::kF32, op, "out is given only when x is quantized; y has x's type");
  return x.dtype;
}

int64_t unpacked_row(std::string_view op, const TensorType& x, const TensorType& weight) {
  const int64_t row = weight.shape[-1];
  if (weight.dtype != DType::kU8) return row;
  const int64_t channels = x.shape[-1];
  require(row > 0 && (row * 2 == channels || row * 4 == channels), op,
          fmt::format("packed weight {} holds 4 or 2 bits of {} channels", to_string(weight),
                      channels));
  return channels;
}

std::vector<TensorType> quantized_norm_outputs(std::string_view op,
                                               std::span<const TypedOperand> in, DType out,
                                               Granularity granularity, bool dynamic) {
  const TensorType& x = need_operand(in, Role::kX, op);
  const TensorType* y_scale = find_operand(in, Role::kYScale);
  if (!is_quantized(out)) {
    require(out == DType::kF32 && !dynamic && y_scale == nullptr, op,
            "out is i8 or f8e4m3, or left as f32: then y has x's type");
    return {x};
  }
  require(out != DType::kU8, op, "makes no packed integers");
  require(granularity == Granularity::kPerTensor || granularity == Granularity::kPerToken, op,
          "scales are per_tensor or per_token");
  const TensorType scale{DType::kF32, scale_shape(granularity, x.shape)};
  if (dynamic) {
    require(y_scale == nullptr, op, "a dynamic scale is no operand");
    return {{out, x.shape}, scale};
  }
  require(y_scale != nullptr, op, "a static quantized output needs y_scale");
  require_scale(op, *y_scale, scale.shape, "y_scale");
  return {{out, x.shape}};
}

}  // namespace halftone::graph
