#include "backend/cpu/call.h"

#include <fmt/format.h>

namespace halftone::backend::cpu {

Rows::Rows(const TensorView& view)
    : data(view.as<std::byte>()),
      pitch_bytes(view.row_pitch * static_cast<int64_t>(size_of(view.type.dtype))),
      count(view.type.shape.num_rows()),
      size(view.type.shape.row_size()),
      dtype(view.type.dtype) {}

Rows Rows::flat() const {
  Rows one = *this;
  one.size = count * size;
  one.count = 1;
  one.pitch_bytes = one.size * static_cast<int64_t>(size_of(dtype));
  return one;
}

const TensorView* find_view(const graph::OpDesc& desc, const Operands& operands, graph::Role role) {
  for (size_t i = 0; i < desc.inputs.size(); ++i) {
    if (desc.inputs[i].role == role) return &operands.inputs[i];
  }
  return nullptr;
}

Rows find_rows(const graph::OpDesc& desc, const Operands& operands, graph::Role role) {
  const TensorView* view = find_view(desc, operands, role);
  return view == nullptr ? Rows() : Rows(*view);
}

bool is_vector_type(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

Support supports_vector_ops(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (!info.has("avx2")) return Support::no("needs AVX2, FMA and F16C");
  for (const auto operands : {desc.inputs, desc.outputs}) {
    for (const graph::TypedOperand& operand : operands) {
      if (operand.role == graph::Role::kIndex || is_vector_type(operand.type.dtype)) continue;
      return Support::no(fmt::format("operand '{}' is {}; wants f32, f16 or bf16",
                                     graph::to_string(operand.role),
                                     to_string(operand.type.dtype)));
    }
  }
  return Support::yes();
}

}  // namespace halftone::backend::cpu
