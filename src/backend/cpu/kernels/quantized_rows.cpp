#include "backend/cpu/kernels/quantized_rows.h"

#include <algorithm>

#include "tensor/quantized.h"

namespace halftone::backend::cpu {

using graph::Granularity;
using graph::Role;

QuantizedRows::QuantizedRows(const graph::OpDesc& desc, const Operands& operands,
                             const VectorOps& ops, DType out, Granularity granularity, bool dynamic)
    : q_(operands.outputs[0]), dynamic_(dynamic), largest_(quantized_largest(out, 8)) {
  if (!graph::is_quantized(out)) return;
  ops_ = &ops;
  const Rows scales =
      dynamic ? Rows(operands.outputs[1]) : find_rows(desc, operands, Role::kYScale);
  scales_ = reinterpret_cast<float*>(scales.data);
  set_sharing(operands.outputs[0].type.shape, granularity);
}

QuantizedRows::QuantizedRows(const graph::OpDesc& desc, const Operands& operands,
                             const VectorOps& ops)
    : ops_(&ops), q_(operands.outputs[0]) {
  const auto& op = desc.as<graph::Quantize>();
  dynamic_ = op.dynamic;
  bits_ = op.bits;
  largest_ = quantized_largest(op.dtype, op.bits);
  low_ = static_cast<float>(quantized_low(op.bits, op.narrow));
  const Rows scales =
      dynamic_ ? Rows(operands.outputs[1]) : find_rows(desc, operands, Role::kXScale);
  scales_ = reinterpret_cast<float*>(scales.data);
  if (const TensorView* zero = find_view(desc, operands, Role::kXZero)) {
    zero_ = zero->as<int32_t>();
  }
  set_sharing(operands.inputs[0].type.shape, op.granularity);
}

void QuantizedRows::set_sharing(const Shape& shape, Granularity granularity) {
  const int64_t rows = shape.num_rows();
  num_scales_ = graph::scale_shape(granularity, shape).num_elements();
  rows_per_scale_ = std::max<int64_t>(rows / std::max<int64_t>(num_scales_, 1), 1);
  per_row_ = granularity == Granularity::kPerToken;
  uniform_ = granularity == Granularity::kUniform;
}

bool QuantizedRows::wants_tensor_maximum() const {
  return dynamic_ && !per_row_ && (uniform_ || num_scales_ == 1);
}

void QuantizedRows::set_tensor_maximum(float maximum) const {
  std::fill_n(scales_, num_scales_, scale_for(maximum, largest_));
}

void QuantizedRows::set_maximum(int64_t scale, float maximum) const {
  scales_[scale] = scale_for(maximum, largest_);
}

int64_t QuantizedRows::scale_of(int64_t row) const { return row / rows_per_scale_; }

float QuantizedRows::static_inverse(int64_t row) const {
  return inverse_scale(scales_[scale_of(row)]);
}

void QuantizedRows::store(const float* values, int64_t row) const {
  constexpr int64_t kPiece = 1024;
  const bool packed = q_.dtype == DType::kU8;
  const int64_t count = packed ? q_.size * 8 / bits_ : q_.size;
  if (dynamic_ && per_row_) set_maximum(row, ops_->largest(values, count));
  const float inverse = inverse_scale(scales_[scale_of(row)]);
  const float zero = zero_ == nullptr ? 0.0F : static_cast<float>(*zero_);
  auto* to = reinterpret_cast<uint8_t*>(q_.at(row));
  if (q_.dtype == DType::kF8E4M3) return ops_->quantize_f8(values, inverse, to, count);
  if (!packed) {
    return ops_->quantize(values, inverse, zero, low_, largest_, reinterpret_cast<int8_t*>(to),
                          count);
  }
  std::fill_n(to, q_.size, uint8_t{0});
  for (int64_t first = 0; first < count; first += kPiece) {
    alignas(64) int8_t codes[kPiece];
    const int64_t n = std::min(kPiece, count - first);
    ops_->quantize(values + first, inverse, zero, low_, largest_, codes, n);
    for (int64_t i = 0; i < n; ++i) put_packed(to, first + i, bits_, codes[i]);
  }
}

}  // namespace halftone::backend::cpu
