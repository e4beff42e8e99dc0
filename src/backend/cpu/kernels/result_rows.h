// Rows of a result: floats, or codes of one static scale, kYScale (graph/ops/quantize.h).
#pragma once

#include "backend/cpu/call.h"

namespace halftone::backend::cpu {

class ResultRows {
 public:
  ResultRows(const graph::OpDesc& desc, const Operands& operands, const VectorOps& ops);
  // Elements from column `first` of a row on.
  void store(const float* values, int64_t row, int64_t first, int64_t count) const;

 private:
  const VectorOps& ops_;
  Rows y_;
  const float* scale_ = nullptr;
};

}  // namespace halftone::backend::cpu
