// Rows of floats that end in Quantize (graph/ops/quantize.h).
#pragma once

#include "backend/cpu/call.h"

namespace halftone::backend::cpu {

class QuantizedRows {
 public:
  QuantizedRows() = default;
  // The outputs, kYScale and attributes of a norm; 8 bits. Nothing when `out` is not quantized.
  QuantizedRows(const graph::OpDesc& desc, const Operands& operands, const VectorOps& ops,
                DType out, graph::Granularity granularity, bool dynamic);
  // Those of a quantize op.
  QuantizedRows(const graph::OpDesc& desc, const Operands& operands, const VectorOps& ops);

  explicit operator bool() const { return ops_ != nullptr; }
  // The scale of any row depends on all rows: it must be set before rows are stored.
  [[nodiscard]] bool wants_tensor_maximum() const;
  void set_tensor_maximum(float maximum) const;
  // Dynamic scale of rows that share index `scale`.
  void set_maximum(int64_t scale, float maximum) const;
  // Codes of int8 whose scale is known before: rounded products with this.
  [[nodiscard]] bool is_static_i8() const { return q_.dtype == DType::kI8 && !dynamic_; }
  [[nodiscard]] float static_inverse(int64_t row) const;
  // Quantizes a row; a scale per row is found here.
  void store(const float* values, int64_t row) const;

  [[nodiscard]] int64_t scale_of(int64_t row) const;
  // Rows with the same scale.
  [[nodiscard]] int64_t rows_per_scale() const { return rows_per_scale_; }
  [[nodiscard]] int64_t num_scales() const { return num_scales_; }

 private:
  void set_sharing(const Shape& shape, graph::Granularity granularity);

  const VectorOps* ops_ = nullptr;
  Rows q_;
  float* scales_ = nullptr;  // read when static, else written
  int64_t num_scales_ = 0;
  int64_t rows_per_scale_ = 1;
  bool dynamic_ = false, per_row_ = false, uniform_ = false;
  int64_t bits_ = 8;
  float largest_ = 127.0F, low_ = -128.0F;
  const int32_t* zero_ = nullptr;
};

}  // namespace halftone::backend::cpu
