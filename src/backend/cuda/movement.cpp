// Ops that only move elements, of any type (plain/movement.cu).
#include <algorithm>

#include "backend/cuda/call.h"
#include "backend/cuda/error.h"
#include "backend/cuda/kernels.h"

namespace halftone::backend::cuda {
namespace {

using graph::Role;

Support same_type(const graph::OpDesc& desc, const DeviceInfo& /*info*/) {
  for (const graph::TypedOperand& operand : desc.inputs) {
    if (operand.role != Role::kIndex && operand.type.dtype != desc.output().dtype) {
      return Support::no("copies only; element types differ");
    }
  }
  return Support::yes();
}

int64_t row_bytes(const TensorType& type) {
  return type.shape.row_size() * static_cast<int64_t>(size_of(type.dtype));
}

// Where a part that begins at `begin` along an axis lies in the whole, as rows: runs of `run` rows,
// `step` rows apart, the first at `first`; and a byte offset into each row.
struct Placement {
  int64_t run, step, first, offset;
};

Placement place(const TensorType& whole, const TensorType& part, int64_t axis, int64_t begin) {
  const auto rank = static_cast<int>(whole.shape.rank());
  const auto at = static_cast<int>(axis < 0 ? axis + rank : axis);
  if (at == rank - 1) return {1, 1, 0, begin * static_cast<int64_t>(size_of(whole.dtype))};
  int64_t inner = 1;
  for (int i = at + 1; i < rank - 1; ++i) inner *= whole.shape[i];
  return {std::max<int64_t>(part.shape[at] * inner, 1), whole.shape[at] * inner, begin * inner, 0};
}

std::unique_ptr<Launch> prepare_concat(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                       Config /*config*/, const Operands& operands) {
  const auto& op = desc.as<graph::Concat>();
  std::vector<CopyRowsArgs> parts;
  int64_t begin = 0;
  for (const TensorView& view : operands.inputs) {
    const Placement to = place(desc.output(), view.type, op.axis, begin);
    CopyRowsArgs args;
    args.x = view.data;
    args.y = static_cast<std::byte*>(operands.outputs[0].data) + to.offset;
    args.rows = view.type.shape.num_rows();
    args.row_bytes = row_bytes(view.type);
    args.x_pitch = args.row_bytes;
    args.y_pitch = row_bytes(desc.output());
    args.y_run = to.run;
    args.y_step = to.step;
    args.y_first = to.first;
    parts.push_back(args);
    begin += view.type.shape[static_cast<int>(op.axis)];
  }
  return make_launch(
      [parts = std::move(parts)](cudaStream_t stream) { launch_copy_rows(parts, stream); });
}

std::unique_ptr<Launch> prepare_slice(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                      Config /*config*/, const Operands& operands) {
  const auto& op = desc.as<graph::Slice>();
  const TensorView& x = operands.inputs[0];
  const Placement from = place(x.type, desc.output(), op.axis, op.begin);
  CopyRowsArgs args;
  args.x = static_cast<const std::byte*>(x.data) + from.offset;
  args.y = operands.outputs[0].data;
  args.rows = desc.output().shape.num_rows();
  args.row_bytes = row_bytes(desc.output());
  args.x_pitch = row_bytes(x.type);
  args.y_pitch = args.row_bytes;
  args.x_run = from.run;
  args.x_step = from.step;
  args.x_first = from.first;
  return make_launch([args](cudaStream_t stream) { launch_copy_rows({&args, 1}, stream); });
}

std::unique_ptr<Launch> prepare_reshape(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                        Config /*config*/, const Operands& operands) {
  void* y = operands.outputs[0].data;
  const void* x = operands.inputs[0].data;
  const size_t bytes = desc.output().num_bytes();
  return make_launch([=](cudaStream_t stream) {
    check(cudaMemcpyAsync(y, x, bytes, cudaMemcpyDeviceToDevice, stream), "reshape");
  });
}

Support supports_transpose(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (desc.output().shape.rank() > kMaxRank) return Support::no("wants at most 6 axes");
  return same_type(desc, info);
}

std::unique_ptr<Launch> prepare_transpose(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                          Config /*config*/, const Operands& operands) {
  const auto& op = desc.as<graph::Transpose>();
  const Shape& from = operands.inputs[0].type.shape;
  const auto rank = static_cast<int>(from.rank());
  TransposeArgs args;
  args.x = operands.inputs[0].data;
  args.y = operands.outputs[0].data;
  args.count = from.num_elements();
  args.rank = rank;
  args.element_bytes = static_cast<int>(size_of(desc.output().dtype));
  for (int i = 0; i < rank; ++i) {
    const auto axis = static_cast<int>(op.perm[static_cast<size_t>(i)]);
    args.extent[i] = from[axis];
    args.stride[i] = 1;
    for (int inner = axis + 1; inner < rank; ++inner) args.stride[i] *= from[inner];
  }
  return make_launch([args](cudaStream_t stream) { launch_transpose(args, stream); });
}

std::unique_ptr<Launch> prepare_upsample(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                         Config /*config*/, const Operands& operands) {
  const Shape& from = operands.inputs[0].type.shape;
  UpsampleArgs args;
  args.x = operands.inputs[0].data;
  args.y = operands.outputs[0].data;
  args.n = from[0];
  args.h = from[1];
  args.w = from[2];
  args.out_h = desc.output().shape[1];
  args.out_w = desc.output().shape[2];
  args.row_bytes = row_bytes(desc.output());
  return make_launch([args](cudaStream_t stream) { launch_upsample(args, stream); });
}

Support supports_any(const graph::OpDesc& /*desc*/, const DeviceInfo& /*info*/) {
  return Support::yes();
}

std::unique_ptr<Launch> prepare_subpixel_weight(const graph::OpDesc& /*desc*/,
                                                const DeviceInfo& /*info*/, Config /*config*/,
                                                const Operands& operands) {
  const TensorView& x = operands.inputs[0];
  SubpixelWeightArgs args;
  args.x = x.as<const float>();
  args.y = operands.outputs[0].as<float>();
  args.out = x.type.shape[0];
  args.in = x.type.shape[3];
  return make_launch([args](cudaStream_t stream) { launch_subpixel_weight(args, stream); });
}

std::unique_ptr<Launch> prepare_subpixel_merge(const graph::OpDesc& desc,
                                               const DeviceInfo& /*info*/, Config /*config*/,
                                               const Operands& operands) {
  const Shape& to = desc.output().shape;
  SubpixelMergeArgs args;
  args.x = operands.inputs[0].data;
  args.y = operands.outputs[0].data;
  args.n = to[0];
  args.h = to[1] / 2;
  args.w = to[2] / 2;
  args.row_bytes = row_bytes(desc.output());
  return make_launch([args](cudaStream_t stream) { launch_subpixel_merge(args, stream); });
}

std::unique_ptr<Launch> gather(const graph::OpDesc& desc, const Operands& operands, Role source,
                               int64_t limit, int64_t rows_per_index) {
  GatherRowsArgs args;
  args.x = find_view(desc, operands, source)->data;
  args.index = find_view(desc, operands, Role::kIndex)->as<const int32_t>();
  args.y = operands.outputs[0].data;
  args.rows = desc.output().shape.num_rows();
  args.row_bytes = row_bytes(desc.output());
  args.limit = limit;
  args.rows_per_index = rows_per_index;
  return make_launch([args](cudaStream_t stream) { launch_gather_rows(args, stream); });
}

std::unique_ptr<Launch> prepare_embedding(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                          Config /*config*/, const Operands& operands) {
  return gather(desc, operands, Role::kWeight, desc.input(Role::kWeight)->shape[0], 0);
}

std::unique_ptr<Launch> prepare_select_row(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                           Config /*config*/, const Operands& operands) {
  const int64_t tokens = desc.input(Role::kX)->shape[1];
  return gather(desc, operands, Role::kX, tokens, tokens);
}

}  // namespace

const Kernel concat_plain =
    plain_kernel("cuda.concat.plain", graph::OpKind::kConcat, same_type, prepare_concat);
const Kernel slice_plain =
    plain_kernel("cuda.slice.plain", graph::OpKind::kSlice, same_type, prepare_slice);
const Kernel reshape_plain =
    plain_kernel("cuda.reshape.plain", graph::OpKind::kReshape, same_type, prepare_reshape);
const Kernel transpose_plain = plain_kernel("cuda.transpose.plain", graph::OpKind::kTranspose,
                                            supports_transpose, prepare_transpose);
const Kernel upsample_plain =
    plain_kernel("cuda.upsample.plain", graph::OpKind::kUpsample, same_type, prepare_upsample);
const Kernel subpixel_weight_plain =
    plain_kernel("cuda.subpixel_weight.plain", graph::OpKind::kSubpixelWeight, supports_any,
                 prepare_subpixel_weight);
const Kernel subpixel_merge_plain = plain_kernel(
    "cuda.subpixel_merge.plain", graph::OpKind::kSubpixelMerge, same_type, prepare_subpixel_merge);
const Kernel embedding_plain =
    plain_kernel("cuda.embedding.plain", graph::OpKind::kEmbedding, same_type, prepare_embedding);
const Kernel select_row_plain =
    plain_kernel("cuda.select_row.plain", graph::OpKind::kSelectRow, same_type, prepare_select_row);

}  // namespace halftone::backend::cuda
