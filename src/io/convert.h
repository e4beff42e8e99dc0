// Conversion of element types at memory speed, for loading weights.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace halftone::io {

// Same results as halftone::convert; vectorised between f32, f16 and bf16. Ranges must not overlap.
void convert_elements(const void* src, DType src_type, void* dst, DType dst_type, size_t n);

// How many of n elements are infinite or not a number; 0 for integer types.
[[nodiscard]] uint64_t count_non_finite(const void* data, DType dtype, size_t n);

}  // namespace halftone::io
