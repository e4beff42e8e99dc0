// Group and layer normalisation (plain/norms.cu). Codes are written by the norm itself where it
// knows the scale in time; else the float result is quantized after it.
#include <algorithm>

#include "backend/cuda/call.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/quantize.h"

namespace halftone::backend::cuda {
namespace {

using graph::Role;

constexpr int64_t kMaxChannels = 4096;  // shared memory of the statistics
constexpr int64_t kMaxGroups = 64;
constexpr int64_t kRowsPerChunk = 16;
constexpr int64_t kMaxChunks = 256;

// Of the floating operands; the output may also hold codes.
Support supports_norm(const graph::OpDesc& desc, const DeviceInfo& /*info*/) {
  for (const Role role : {Role::kX, Role::kGamma, Role::kBeta}) {
    if (!is_plain_float(desc.input(role)->dtype)) return Support::no("wants f32, f16 or bf16");
  }
  return Support::yes();
}

bool makes_codes(const graph::OpDesc& desc) { return !is_plain_float(desc.output().dtype); }

// Codes of floats in the workspace, in the way of the Quantize op.
QuantizeArgs quantize_after(const graph::OpDesc& desc, const Operands& operands, const void* floats,
                            bool dynamic) {
  const Shape& shape = desc.output().shape;
  QuantizeArgs args;
  args.x = {floats, DType::kF32};
  args.y = operands.outputs[0].data;
  args.format = code_format(desc.output().dtype, 8, false);
  args.rows = shape.num_rows();
  args.cols = shape.row_size();
  const TensorView& scale =
      dynamic ? operands.outputs[1] : *find_view(desc, operands, Role::kYScale);
  args.rows_per_scale = rows_per_scale(scale.type, args.rows);
  if (dynamic) {
    args.scale_out = scale.as<float>();
    args.groups = args.repeats = scale.type.shape.num_elements();
  } else {
    args.scale_in = scale.as<float>();
  }
  return args;
}

size_t float_bytes(const graph::OpDesc& desc) {
  return static_cast<size_t>(desc.output().shape.num_elements()) * sizeof(float);
}

// A static scale for the whole tensor.
bool fuses_group_norm(const graph::OpDesc& desc) {
  const TensorType* scale = desc.input(Role::kYScale);
  return scale != nullptr && scale->shape.num_elements() == 1;
}

// Static scales, or each row's own.
bool fuses_layer_norm(const graph::OpDesc& desc) {
  const auto& op = desc.as<graph::LayerNorm>();
  const int64_t channels = desc.output().shape.row_size();
  return channels <= kMaxCodedChannels && channels % 8 == 0 &&
         (!op.dynamic || op.granularity == graph::Granularity::kPerToken);
}

Support supports_group_norm(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (desc.output().shape.row_size() > kMaxChannels)
    return Support::no("wants at most 4096 channels");
  if (desc.as<graph::GroupNorm>().groups > kMaxGroups)
    return Support::no("wants at most 64 groups");
  return supports_norm(desc, info);
}

// One piece an SM, none shorter than a few rows.
int64_t chunks_of(const Shape& shape, const DeviceInfo& info) {
  const int64_t n = std::max<int64_t>(shape[0], 1);
  const int64_t rows = shape.num_rows() / n;
  const int64_t wanted = std::max<int64_t>(info.num_units / n, 1);
  return std::clamp<int64_t>(rows / kRowsPerChunk, 1, std::min(wanted, kMaxChunks));
}

size_t statistics_bytes(const graph::OpDesc& desc, const DeviceInfo& info) {
  const Shape& shape = desc.output().shape;
  const size_t bytes =
      static_cast<size_t>(shape[0] * chunks_of(shape, info) * desc.as<graph::GroupNorm>().groups) *
      2 * sizeof(float);
  return (bytes + 255) / 256 * 256;
}

size_t workspace_group_norm(const graph::OpDesc& desc, const DeviceInfo& info, Config /*config*/) {
  const bool after = makes_codes(desc) && !fuses_group_norm(desc);
  return statistics_bytes(desc, info) + (after ? float_bytes(desc) : 0);
}

std::unique_ptr<Launch> prepare_group_norm(const graph::OpDesc& desc, const DeviceInfo& info,
                                           Config /*config*/, const Operands& operands) {
  const auto& op = desc.as<graph::GroupNorm>();
  const Shape& shape = desc.output().shape;
  GroupNormArgs args;
  args.x = find_typed(desc, operands, Role::kX);
  args.gamma = find_typed(desc, operands, Role::kGamma);
  args.beta = find_typed(desc, operands, Role::kBeta);
  args.y = typed_out(operands.outputs[0]);
  args.partial = static_cast<float*>(operands.workspace);
  args.n = shape[0];
  args.rows = shape[0] > 0 ? shape.num_rows() / shape[0] : 0;
  args.channels = shape.row_size();
  args.groups = op.groups;
  args.chunks = static_cast<int>(chunks_of(shape, info));
  args.eps = static_cast<float>(op.eps);
  args.act = act_of(op.activation);
  if (!makes_codes(desc)) {
    return make_launch([args](cudaStream_t stream) { launch_group_norm(args, stream); });
  }
  args.format = code_format(desc.output().dtype, 8, false);
  if (fuses_group_norm(desc)) {
    args.y_scale = find_view(desc, operands, Role::kYScale)->as<float>();
    return make_launch([args](cudaStream_t stream) { launch_group_norm(args, stream); });
  }
  args.y = {static_cast<std::byte*>(operands.workspace) + statistics_bytes(desc, info),
            DType::kF32};
  const QuantizeArgs after = quantize_after(desc, operands, args.y.data, op.dynamic);
  return make_launch([args, after](cudaStream_t stream) {
    launch_group_norm(args, stream);
    launch_quantize(after, stream);
  });
}

size_t workspace_layer_norm(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                            Config /*config*/) {
  return makes_codes(desc) && !fuses_layer_norm(desc) ? float_bytes(desc) : 0;
}

std::unique_ptr<Launch> prepare_layer_norm(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                           Config /*config*/, const Operands& operands) {
  LayerNormArgs args;
  args.x = find_typed(desc, operands, Role::kX);
  args.gamma = find_typed(desc, operands, Role::kGamma);
  args.beta = find_typed(desc, operands, Role::kBeta);
  args.y = typed_out(operands.outputs[0]);
  args.rows = desc.output().shape.num_rows();
  args.channels = desc.output().shape.row_size();
  const auto& op = desc.as<graph::LayerNorm>();
  args.eps = static_cast<float>(op.eps);
  if (!makes_codes(desc)) {
    return make_launch([args](cudaStream_t stream) { launch_layer_norm(args, stream); });
  }
  args.format = code_format(desc.output().dtype, 8, false);
  if (fuses_layer_norm(desc)) {
    if (op.dynamic) {
      args.y_dynamic = operands.outputs[1].as<float>();
    } else {
      const TensorView& scale = *find_view(desc, operands, Role::kYScale);
      args.y_scale = scale.as<float>();
      args.rows_per_scale = rows_per_scale(scale.type, args.rows);
    }
    return make_launch([args](cudaStream_t stream) { launch_layer_norm(args, stream); });
  }
  args.y = {operands.workspace, DType::kF32};
  const QuantizeArgs after = quantize_after(desc, operands, args.y.data, op.dynamic);
  return make_launch([args, after](cudaStream_t stream) {
    launch_layer_norm(args, stream);
    launch_quantize(after, stream);
  });
}

}  // namespace

const Kernel group_norm_plain =
    in_place(plain_kernel("cuda.group_norm.plain", graph::OpKind::kGroupNorm, supports_group_norm,
                          prepare_group_norm, workspace_group_norm));
const Kernel layer_norm_plain =
    plain_kernel("cuda.layer_norm.plain", graph::OpKind::kLayerNorm, supports_norm,
                 prepare_layer_norm, workspace_layer_norm);

}  // namespace halftone::backend::cuda
