// What the kernels' descriptions share: operands by role, common conditions, plain entries.
//
// Contract of every kernel here: operands are dense and 256-byte aligned, but for attention's q, k
// and v, whose rows may be pitched (slices of a merged linear).
#pragma once

#include <string_view>

#include "backend/backend.h"
#include "backend/cuda/plain/args.h"
#include "backend/cuda/stream.h"

namespace halftone::backend::cuda {

[[nodiscard]] const TensorView* find_view(const graph::OpDesc& desc, const Operands& operands,
                                          graph::Role role);
// What is to be known of the result, by the output's role; null where nobody asks for it.
[[nodiscard]] float* find_output(const graph::OpDesc& desc, const Operands& operands,
                                 graph::Role role);
// Their launch behind what makes the result (launch_group_statistics); no statistics where nobody
// asks for them.
[[nodiscard]] GroupNormArgs group_statistics_args(const graph::OpDesc& desc,
                                                  const Operands& operands);
[[nodiscard]] inline Typed typed(const TensorView& view) { return {view.data, view.type.dtype}; }
[[nodiscard]] inline TypedOut typed_out(const TensorView& view) {
  return {view.data, view.type.dtype};
}
// Nothing in the stream writes it.
[[nodiscard]] bool is_constant(const graph::OpDesc& desc, const Operands& operands,
                               graph::Role role);
// Absent operands give a null address.
[[nodiscard]] Typed find_typed(const graph::OpDesc& desc, const Operands& operands,
                               graph::Role role);

[[nodiscard]] bool is_plain_float(DType dtype);
// Yes when all floating operands are f32, f16 or bf16.
[[nodiscard]] Support supports_floats(const graph::OpDesc& desc, const DeviceInfo& info);

// Whether a linear that takes or gives row statistics (graph/ops/linear.h) is worth a kernel here.
[[nodiscard]] Support supports_row_statistics(const graph::OpDesc& desc, const DeviceInfo& info);

[[nodiscard]] inline Act act_of(graph::Activation activation) {
  return static_cast<Act>(activation);
}

// Bias, row add, activation, GEGLU and residual of a linear or conv2d whose sums lie at `x`.
[[nodiscard]] EpilogueArgs epilogue_of(const graph::OpDesc& desc, const Operands& operands,
                                       Typed x);

// A kernel with one configuration and weights as they are; workspace optional.
[[nodiscard]] constexpr Kernel plain_kernel(std::string_view name, graph::OpKind op,
                                            decltype(Kernel::supports) supports,
                                            decltype(Kernel::prepare) prepare,
                                            decltype(Kernel::workspace_bytes) workspace = nullptr) {
  return {.name = name,
          .op = op,
          .supports = supports,
          .configs = nullptr,
          .workspace_bytes = workspace,
          .packed_bytes = nullptr,
          .pack_key = nullptr,
          .pack = nullptr,
          .prepare = prepare};
}

// The same, allowed to write over its first input.
[[nodiscard]] constexpr Kernel in_place(Kernel kernel) {
  kernel.in_place = true;
  return kernel;
}

// The same, for kernels that look at what an op asks to know of its result.
[[nodiscard]] constexpr Kernel with_statistics(Kernel kernel) {
  kernel.statistics = true;
  return kernel;
}

}  // namespace halftone::backend::cuda
