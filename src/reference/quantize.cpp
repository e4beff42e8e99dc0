// Quantize, Dequantize, and what other ops need to read and write quantized tensors.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "halftone/error.h"

#include "reference/ops.h"
#include "tensor/quantized.h"

namespace halftone::reference {
namespace {

std::vector<float> load_integers(const TensorView& view, int64_t row_size) {
  const int64_t rows = view.type.shape.num_rows();
  const bool packed = view.type.dtype == DType::kU8;
  const int64_t bits = packed ? view.type.shape[-1] * 8 / std::max<int64_t>(row_size, 1) : 8;
  std::vector<float> values;
  values.reserve(to_size(rows * row_size));
  for (int64_t row = 0; row < rows; ++row) {
    const uint8_t* from = view.as<const uint8_t>() + row * view.row_pitch;
    for (int64_t i = 0; i < row_size; ++i) {
      const int32_t value = packed ? packed_at(from, i, bits) : static_cast<int8_t>(from[i]);
      values.push_back(static_cast<float>(value));
    }
  }
  return values;
}

int32_t zero_point(const Call& call) {
  const TensorView* zero = call.find(graph::Role::kXZero);
  return zero == nullptr ? 0 : load_indices(*zero)[0];
}

}  // namespace

std::vector<float> load_codes(const TensorView& view, int64_t row) {
  const DType dtype = view.type.dtype;
  return dtype == DType::kI8 || dtype == DType::kU8 ? load_integers(view, row) : load(view);
}

void Quantizer::store_row(std::span<const float> values, float inverse, const TensorView& view,
                          int64_t row) const {
  uint8_t* to = view.as<uint8_t>() + row * view.row_pitch;
  if (view.type.dtype == DType::kF8E4M3) {
    for (size_t i = 0; i < values.size(); ++i) to[i] = quantize_f8e4m3(values[i], inverse);
    return;
  }
  const bool packed = view.type.dtype == DType::kU8;
  check_internal(packed || view.type.dtype == DType::kI8, "reference: quantizes to i8, u8, f8e4m3");
  if (packed) std::fill_n(to, view.type.shape.row_size(), uint8_t{0});
  const int32_t low = quantized_low(bits, narrow);
  const int32_t high = quantized_high(bits);
  for (size_t i = 0; i < values.size(); ++i) {
    const int32_t q = quantize_integer(values[i], inverse, zero, low, high);
    if (packed) {
      put_packed(to, static_cast<int64_t>(i), bits, q);
    } else {
      to[i] = static_cast<uint8_t>(q);
    }
  }
}

size_t scale_index(graph::Granularity granularity, const Shape& shape, int64_t row) {
  switch (granularity) {
    case graph::Granularity::kPerToken:
      return to_size(row);
    case graph::Granularity::kPerChannel:
    case graph::Granularity::kUniform:
      return to_size(row / (shape.num_rows() / shape[0]));
    default:
      return 0;
  }
}

std::vector<float> dynamic_scales(std::span<const float> values, const Shape& shape,
                                  graph::Granularity granularity, float largest) {
  const bool uniform = granularity == graph::Granularity::kUniform;
  std::vector<float> scales(to_size(graph::scale_shape(granularity, shape).num_elements()), 0.0F);
  const size_t width = to_size(shape.row_size());
  for (int64_t row = 0; row < shape.num_rows(); ++row) {
    float& amax = scales[uniform ? 0 : scale_index(granularity, shape, row)];
    for (const float v : values.subspan(to_size(row) * width, width)) {
      amax = std::max(amax, std::fabs(v));
    }
  }
  if (uniform) std::ranges::fill(scales, scales.empty() ? 0.0F : scales[0]);
  for (float& scale : scales) scale = scale_for(scale, largest);
  return scales;
}

void store_amax(const Call& call) {
  const auto at =
      std::ranges::find(call.desc.outputs, graph::Role::kAmax, &graph::TypedOperand::role);
  if (at == call.desc.outputs.end()) return;
  const std::vector<float> y = load(call.output());
  const size_t width = to_size(call.output().type.shape.row_size());
  const size_t parts = to_size(at->type.shape[1]);
  std::vector<double> amax(to_size(at->type.shape.num_elements()), 0.0);
  for (size_t i = 0; i < y.size(); ++i) {
    const size_t line = i / width / to_size(graph::kAmaxRows);
    double& part = amax[line * parts + i % width / to_size(graph::kAmaxColumns)];
    part = std::max(part, std::fabs(static_cast<double>(y[i])));
  }
  store(amax, call.outputs[static_cast<size_t>(at - call.desc.outputs.begin())]);
}

void store_quantized(std::span<const double> values, graph::Granularity granularity, bool dynamic,
                     const Call& call) {
  const TensorView& y = call.output();
  const Shape& shape = y.type.shape;
  const std::vector<float> v(values.begin(), values.end());
  std::vector<float> scales;
  if (dynamic) {
    scales = dynamic_scales(v, shape, granularity, quantized_largest(y.type.dtype, 8));
    store(std::vector<double>(scales.begin(), scales.end()), call.outputs[1]);
  } else {
    scales = load(call.need(graph::Role::kYScale));
  }
  const size_t width = to_size(shape.row_size());
  for (int64_t row = 0; row < shape.num_rows(); ++row) {
    Quantizer{}.store_row(std::span(v).subspan(to_size(row) * width, width),
                          inverse_scale(scales[scale_index(granularity, shape, row)]), y, row);
  }
}

void run(const graph::Quantize& op, const Call& call) {
  const TensorView& x = call.need(graph::Role::kX);
  const Shape& shape = x.type.shape;
  const size_t width = to_size(shape.row_size());
  std::vector<float> v = load(x);
  if (const TensorView* view = call.find(graph::Role::kGamma)) {
    const std::vector<float> gamma = load(*view);
    for (size_t i = 0; i < v.size(); ++i) v[i] *= gamma[i % width];
  }
  std::vector<float> scales;
  if (op.dynamic) {
    const float largest = quantized_largest(op.dtype, op.bits);
    const TensorView* amax = call.find(graph::Role::kAmax);
    scales = amax != nullptr
                 ? dynamic_scales(load(*amax), amax->type.shape, op.granularity, largest)
                 : dynamic_scales(v, shape, op.granularity, largest);
    store(std::vector<double>(scales.begin(), scales.end()), call.outputs[1]);
  } else {
    scales = load(call.need(graph::Role::kXScale));
  }
  const Quantizer quantizer{op.bits, op.narrow, zero_point(call)};
  for (int64_t row = 0; row < shape.num_rows(); ++row) {
    quantizer.store_row(std::span(v).subspan(to_size(row) * width, width),
                        inverse_scale(scales[scale_index(op.granularity, shape, row)]),
                        call.output(), row);
  }
}

void run(const graph::Dequantize& op, const Call& call) {
  const TensorView& y = call.output();
  const Shape& shape = y.type.shape;
  const size_t width = to_size(shape.row_size());
  const std::vector<float> codes = load_codes(call.need(graph::Role::kX), shape[-1]);
  const std::vector<float> scales = load(call.need(graph::Role::kXScale));
  const auto zero = static_cast<float>(zero_point(call));
  std::vector<double> values(width);
  for (int64_t row = 0; row < shape.num_rows(); ++row) {
    const float scale = scales[scale_index(op.granularity, shape, row)];
    for (size_t i = 0; i < width; ++i) {
      const float value = scale * (codes[to_size(row) * width + i] - zero);
      values[i] = double{value};
    }
    store_row(values, y, row);
  }
}

void run(const graph::Scale& op, const Call& call) {
  const TensorView& x_view = call.need(graph::Role::kX);
  const std::vector<float> x = load(x_view);
  const std::vector<float> gamma = load(call.need(graph::Role::kGamma));
  const size_t stride = op.axis == 0 ? x.size() / std::max<size_t>(gamma.size(), 1) : 1;
  std::vector<double> y(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const float product = x[i] * gamma[i / stride % gamma.size()];
    y[i] = double{product};
  }
  store(y, call.output());
}

}  // namespace halftone::reference
