// Linears and convolutions with quantized weights: what their kernels' descriptions share.
#pragma once

#include <string>

#include "backend/cuda/call.h"

namespace halftone::backend::cuda {

// Yes to a quantized weight with symmetric inputs and a floating rest, not interleaved.
[[nodiscard]] Support supports_quantized(const graph::OpDesc& desc, const DeviceInfo& info);

// Rows of the weight: twice y's columns with GEGLU.
[[nodiscard]] int64_t weight_rows(const graph::OpDesc& desc);

// Operands, scales and geometry; y is the workspace.
[[nodiscard]] QuantizedMatrixArgs matrix_args(const graph::OpDesc& desc, const Operands& operands);

// What the speed depends on, for the tuning file.
[[nodiscard]] std::string shape_key(const graph::OpDesc& desc, const QuantizedMatrixArgs& args);

// 89 of "sm_89"; 0 of what is no GPU.
[[nodiscard]] int capability(const DeviceInfo& info);
inline constexpr int kFirstWithF8 = 89;  // has products of f8e4m3

}  // namespace halftone::backend::cuda
