// Group and layer normalisation (plain/norms.cu).
#include <algorithm>

#include "backend/cuda/call.h"
#include "backend/cuda/kernels.h"

namespace halftone::backend::cuda {
namespace {

using graph::Role;

constexpr int64_t kMaxChannels = 4096;  // shared memory of the statistics
constexpr int64_t kMaxGroups = 64;
constexpr int64_t kRowsPerChunk = 16;
constexpr int64_t kMaxChunks = 256;

Support supports_group_norm(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (desc.output().shape.row_size() > kMaxChannels)
    return Support::no("wants at most 4096 channels");
  if (desc.as<graph::GroupNorm>().groups > kMaxGroups)
    return Support::no("wants at most 64 groups");
  return supports_floats(desc, info);
}

// Enough pieces to fill the device with two blocks an SM, none shorter than a few rows.
int64_t chunks_of(const Shape& shape, const DeviceInfo& info) {
  const int64_t n = std::max<int64_t>(shape[0], 1);
  const int64_t rows = shape.num_rows() / n;
  const int64_t wanted = std::max<int64_t>(2 * info.num_units / n, 1);
  return std::clamp<int64_t>(rows / kRowsPerChunk, 1, std::min(wanted, kMaxChunks));
}

size_t workspace_group_norm(const graph::OpDesc& desc, const DeviceInfo& info, Config /*config*/) {
  const Shape& shape = desc.output().shape;
  return static_cast<size_t>(shape[0] * chunks_of(shape, info) *
                             desc.as<graph::GroupNorm>().groups) *
         2 * sizeof(float);
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
  return make_launch([args](cudaStream_t stream) { launch_group_norm(args, stream); });
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
  args.eps = static_cast<float>(desc.as<graph::LayerNorm>().eps);
  return make_launch([args](cudaStream_t stream) { launch_layer_norm(args, stream); });
}

}  // namespace

const Kernel group_norm_plain =
    plain_kernel("cuda.group_norm.plain", graph::OpKind::kGroupNorm, supports_group_norm,
                 prepare_group_norm, workspace_group_norm);
const Kernel layer_norm_plain = plain_kernel("cuda.layer_norm.plain", graph::OpKind::kLayerNorm,
                                             supports_floats, prepare_layer_norm);

}  // namespace halftone::backend::cuda
