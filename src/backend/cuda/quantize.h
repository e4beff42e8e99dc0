// Quantized codes in the arguments of the plain kernels.
#pragma once

#include "backend/cuda/call.h"

namespace halftone::backend::cuda {

[[nodiscard]] CodeFormat code_format(DType dtype, int64_t bits, bool narrow);
// Rows of x that share an element of a scale of that shape; x has `rows` rows.
[[nodiscard]] int64_t rows_per_scale(const TensorType& scale, int64_t rows);

}  // namespace halftone::backend::cuda
