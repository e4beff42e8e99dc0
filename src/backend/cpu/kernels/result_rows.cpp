#include "backend/cpu/kernels/result_rows.h"

#include "tensor/quantized.h"

namespace halftone::backend::cpu {

ResultRows::ResultRows(const graph::OpDesc& desc, const Operands& operands, const VectorOps& ops)
    : ops_(ops), y_(operands.outputs[0]) {
  const TensorView* scale = find_view(desc, operands, graph::Role::kYScale);
  if (scale != nullptr) scale_ = scale->as<const float>();
}

void ResultRows::store(const float* values, int64_t row, int64_t first, int64_t count) const {
  std::byte* to = y_.at(row, first);
  if (scale_ == nullptr) return ops_.store(values, y_.dtype, to, count);
  const float inverse = inverse_scale(*scale_);
  if (y_.dtype == DType::kF8E4M3) {
    return ops_.quantize_f8(values, inverse, reinterpret_cast<uint8_t*>(to), count);
  }
  ops_.quantize(values, inverse, 0.0F, static_cast<float>(quantized_low(8, false)),
                static_cast<float>(quantized_high(8)), reinterpret_cast<int8_t*>(to), count);
}

}  // namespace halftone::backend::cpu
