// Quantize, Dequantize and Scale (plain/quantize.cu).
#include "backend/cuda/quantize.h"

#include <algorithm>

#include "backend/cuda/kernels.h"
#include "tensor/quantized.h"

namespace halftone::backend::cuda {
namespace {

using graph::Granularity;
using graph::Role;

Support supports_quantize(const graph::OpDesc& desc, const DeviceInfo& /*info*/) {
  for (const Role role : {Role::kX, Role::kGamma}) {
    const TensorType* type = desc.input(role);
    if (type != nullptr && !is_plain_float(type->dtype)) {
      return Support::no("wants f32, f16 or bf16");
    }
  }
  if (desc.input(Role::kAmax) != nullptr && desc.as<graph::Quantize>().dtype == DType::kU8) {
    return Support::no("no amax for packed codes");
  }
  return Support::yes();
}

std::unique_ptr<Launch> prepare_quantize(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                         Config /*config*/, const Operands& operands) {
  const auto& op = desc.as<graph::Quantize>();
  const TensorView& x = *find_view(desc, operands, Role::kX);
  QuantizeArgs args;
  args.x = typed(x);
  args.gamma = find_typed(desc, operands, Role::kGamma);
  args.y = operands.outputs[0].data;
  args.format = code_format(op.dtype, op.bits, op.narrow);
  args.zero = static_cast<const int32_t*>(find_typed(desc, operands, Role::kXZero).data);
  args.rows = x.type.shape.num_rows();
  args.cols = x.type.shape.row_size();
  const TensorType& scale =
      op.dynamic ? operands.outputs[1].type : find_view(desc, operands, Role::kXScale)->type;
  args.rows_per_scale = rows_per_scale(scale, args.rows);
  if (op.dynamic) {
    args.scale_out = operands.outputs[1].as<float>();
    const int64_t scales = scale.shape.num_elements();
    const bool single =
        op.granularity == Granularity::kPerTensor || op.granularity == Granularity::kUniform;
    args.groups = single ? 1 : scales;
    args.repeats = scales;
    if (const TensorView* amax = find_view(desc, operands, Role::kAmax)) {
      args.amax = amax->as<const float>();
      args.amax_count = amax->type.shape.num_elements();
    }
  } else {
    args.scale_in = static_cast<const float*>(find_typed(desc, operands, Role::kXScale).data);
  }
  return make_launch([args](cudaStream_t stream) { launch_quantize(args, stream); });
}

Support supports_dequantize(const graph::OpDesc& desc, const DeviceInfo& /*info*/) {
  return is_plain_float(desc.output().dtype) ? Support::yes()
                                             : Support::no("makes f32, f16 or bf16");
}

std::unique_ptr<Launch> prepare_dequantize(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                           Config /*config*/, const Operands& operands) {
  const auto& op = desc.as<graph::Dequantize>();
  const TensorView& x = *find_view(desc, operands, Role::kX);
  const TensorView& y = operands.outputs[0];
  DequantizeArgs args;
  args.x = x.data;
  args.y = typed_out(y);
  args.format = code_format(x.type.dtype, op.bits, false);
  args.zero = static_cast<const int32_t*>(find_typed(desc, operands, Role::kXZero).data);
  const TensorView& scale = *find_view(desc, operands, Role::kXScale);
  args.scale = scale.as<float>();
  args.rows = y.type.shape.num_rows();
  args.cols = y.type.shape.row_size();
  args.rows_per_scale = rows_per_scale(scale.type, args.rows);
  return make_launch([args](cudaStream_t stream) { launch_dequantize(args, stream); });
}

std::unique_ptr<Launch> prepare_scale(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                      Config /*config*/, const Operands& operands) {
  const TensorView& x = *find_view(desc, operands, Role::kX);
  const bool first_axis = desc.as<graph::Scale>().axis == 0;
  ScaleArgs args;
  args.x = typed(x);
  args.gamma = find_typed(desc, operands, Role::kGamma);
  args.y = typed_out(operands.outputs[0]);
  args.count = x.type.shape.num_elements();
  args.extent = find_view(desc, operands, Role::kGamma)->type.shape[0];
  args.inner =
      first_axis ? std::max<int64_t>(args.count / std::max<int64_t>(args.extent, 1), 1) : 1;
  return make_launch([args](cudaStream_t stream) { launch_scale(args, stream); });
}

}  // namespace

CodeFormat code_format(DType dtype, int64_t bits, bool narrow) {
  CodeFormat format;
  format.dtype = dtype;
  format.bits = static_cast<int>(bits);
  format.low = quantized_low(bits, narrow);
  format.high = quantized_high(bits);
  format.largest = quantized_largest(dtype, bits);
  return format;
}

int64_t rows_per_scale(const TensorType& scale, int64_t rows) {
  return std::max<int64_t>(rows / std::max<int64_t>(scale.shape.num_elements(), 1), 1);
}

const Kernel quantize_plain = plain_kernel("cuda.quantize.plain", graph::OpKind::kQuantize,
                                           supports_quantize, prepare_quantize);
const Kernel dequantize_plain = plain_kernel("cuda.dequantize.plain", graph::OpKind::kDequantize,
                                             supports_dequantize, prepare_dequantize);
const Kernel scale_plain =
    plain_kernel("cuda.scale.plain", graph::OpKind::kScale, supports_floats, prepare_scale);

}  // namespace halftone::backend::cuda
