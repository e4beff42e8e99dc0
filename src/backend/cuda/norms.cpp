// Group and layer normalisation (plain/ and hopper/group_norm.cu, plain/layer_norm.cu). Codes are
// written by the norm itself where it knows the scale in time; else a layer norm's float result is
// quantized after it.
#include <algorithm>

#include <fmt/format.h>

#include "backend/cuda/call.h"
#include "backend/cuda/context.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/measure.h"
#include "backend/cuda/quantize.h"

namespace halftone::backend::cuda {
namespace {

using graph::Role;

constexpr int64_t kLeastPieceRows = 16;
constexpr int64_t kMostPiecesTaken = 256;

// Of the floating operands; the output may also hold codes.
Support supports_norm(const graph::OpDesc& desc, const DeviceInfo& /*info*/) {
  for (const Role role : {Role::kX, Role::kGamma, Role::kBeta}) {
    if (!is_plain_float(desc.input(role)->dtype)) return Support::no("wants f32, f16 or bf16");
  }
  return Support::yes();
}

// The second part of what a group norm reads; null = all of it is in the first.
const TensorView* second_part(const graph::OpDesc& desc, const Operands& operands) {
  bool first = true;
  for (size_t i = 0; i < desc.inputs.size(); ++i) {
    if (desc.inputs[i].role != Role::kX) continue;
    if (!first) return &operands.inputs[i];
    first = false;
  }
  return nullptr;
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

// Static scales, or each row's own.
bool fuses_layer_norm(const graph::OpDesc& desc) {
  const auto& op = desc.as<graph::LayerNorm>();
  const int64_t channels = desc.output().shape.row_size();
  return channels > 0 && channels <= kMaxCodedChannels && channels % 8 == 0 &&
         (!op.dynamic || op.granularity == graph::Granularity::kPerToken);
}

Support supports_group_norm(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (desc.output().shape.row_size() > kMostGroupedChannels)
    return Support::no("wants at most 4096 channels");
  if (desc.as<graph::GroupNorm>().groups > kMostGroups)
    return Support::no("wants at most 64 groups");
  // Other scales need whole rows, of which a group's blocks have a part each: the norm in 16 bits
  // and a pass for its codes are two fast launches.
  const TensorType* scale = desc.input(Role::kYScale);
  if (makes_codes(desc) && (scale == nullptr || scale->shape.num_elements() != 1))
    return Support::no("codes want one known scale");
  const auto& op = desc.as<graph::GroupNorm>();
  if (graph::is_quantized(op.joined) && op.joined != op.out)
    return Support::no("joined codes are of y's type");
  return supports_norm(desc, info);
}

// How an image's rows are divided for statistics.
struct Pieces {
  int64_t count, rows;  // rows of each but the last
};

// Those that somebody took; else one piece an SM, none shorter than a few rows.
Pieces pieces_of(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (const TensorType* taken = desc.input(Role::kGroupStatistics)) {
    return {taken->shape[2], graph::kRowsPerPiece};
  }
  const Shape& shape = desc.output().shape;
  const int64_t n = std::max<int64_t>(shape[0], 1);
  const int64_t rows = shape.num_rows() / n;
  const int64_t wanted = std::max<int64_t>(info.num_units / n, 1);
  const int64_t most =
      std::clamp<int64_t>(rows / kLeastPieceRows, 1, std::min(wanted, kMostPiecesTaken));
  const int64_t size = std::max<int64_t>((rows + most - 1) / most, 1);
  return {std::max<int64_t>((rows + size - 1) / size, 1), size};
}

// What is made of statistics here: all, or those merged of many.
size_t statistics_bytes(const graph::OpDesc& desc, const DeviceInfo& info) {
  const int64_t pieces = pieces_of(desc, info).count;
  const bool taken = desc.input(Role::kGroupStatistics) != nullptr;
  if (taken && pieces <= kMostPieces) return 0;
  const int64_t of_group = taken ? 1 : pieces;
  const size_t bytes =
      static_cast<size_t>(desc.output().shape[0] * of_group * desc.as<graph::GroupNorm>().groups) *
      2 * sizeof(float);
  return (bytes + 255) / 256 * 256;
}

size_t workspace_group_norm(const graph::OpDesc& desc, const DeviceInfo& info, Config /*config*/) {
  return statistics_bytes(desc, info);
}

// All but addresses and pieces.
GroupNormArgs group_norm_args(const graph::OpDesc& desc) {
  const auto& op = desc.as<graph::GroupNorm>();
  const Shape& shape = desc.output().shape;
  GroupNormArgs args;
  args.x.dtype = desc.input(Role::kX)->dtype;
  args.y.dtype = desc.output().dtype;
  args.n = shape[0];
  args.rows = shape[0] > 0 ? shape.num_rows() / shape[0] : 0;
  args.channels = shape.row_size();
  args.split = desc.input(Role::kX)->shape.row_size();
  args.groups = op.groups;
  args.measured = desc.input(Role::kGroupStatistics) != nullptr;
  args.eps = static_cast<float>(op.eps);
  args.act = act_of(op.activation);
  if (makes_codes(desc)) args.format = code_format(desc.output().dtype, 8, false);
  return args;
}

GroupNormArgs group_norm_args(const graph::OpDesc& desc, const Operands& operands) {
  GroupNormArgs args = group_norm_args(desc);
  args.x = find_typed(desc, operands, Role::kX);
  args.gamma = find_typed(desc, operands, Role::kGamma);
  args.beta = find_typed(desc, operands, Role::kBeta);
  args.y = typed_out(operands.outputs[0]);
  if (makes_codes(desc)) {
    args.y_scale = find_view(desc, operands, Role::kYScale)->as<float>();
  }
  if (const TensorView* second = second_part(desc, operands)) args.x2 = typed(*second);
  const auto& op = desc.as<graph::GroupNorm>();
  if (!op.joins) return args;
  args.joined = typed_out(operands.outputs.back());
  if (graph::is_quantized(op.joined)) {
    args.joined_scale = find_view(desc, operands, Role::kXScale)->as<float>();
  }
  return args;
}

std::unique_ptr<Launch> prepare_group_norm(const graph::OpDesc& desc, const DeviceInfo& info,
                                           Config /*config*/, const Operands& operands) {
  GroupNormArgs args = group_norm_args(desc, operands);
  const Pieces pieces = pieces_of(desc, info);
  args.pieces = static_cast<int>(pieces.count);
  args.piece_rows = static_cast<int>(pieces.rows);
  auto* room = static_cast<float*>(operands.workspace);
  if (const TensorView* taken = find_view(desc, operands, Role::kGroupStatistics)) {
    args.statistics = taken->as<float>();
    if (pieces.count > kMostPieces) args.merged = room;
  } else {
    args.statistics = room;
  }
  return make_launch([args](cudaStream_t stream) { launch_group_norm(args, stream); });
}

// --- One launch of clusters, and whichever is faster

Support supports_clusters(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (!info.has("sm_90a")) return Support::no("needs compute capability 9.0");
  if (Support norm = supports_group_norm(desc, info); !norm.ok) return norm;
  const std::string_view refusal = clusters_refusal(group_norm_args(desc));
  return refusal.empty() ? Support::yes() : Support::no(std::string(refusal));
}

std::unique_ptr<Launch> prepare_clusters(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                         Config /*config*/, const Operands& operands) {
  const GroupNormArgs args = group_norm_args(desc, operands);
  return make_launch([args](cudaStream_t stream) { launch_group_norm_clusters(args, stream); });
}

// Of how many channels the first of two parts is, and what a norm hands on: part of a measurement's
// name.
std::string joins_text(const graph::OpDesc& desc) {
  const auto& op = desc.as<graph::GroupNorm>();
  const int64_t first = desc.input(Role::kX)->shape.row_size();
  std::string text;
  if (first != desc.output().shape.row_size()) text = fmt::format("/parts{}", first);
  if (op.joins) text += graph::is_quantized(op.joined) ? "/joins codes" : "/joins";
  return text;
}

std::unique_ptr<Launch> prepare_either(const graph::OpDesc& desc, const DeviceInfo& info,
                                       Config config, const Operands& operands) {
  const GroupNormArgs a = group_norm_args(desc);
  return faster(
      fmt::format("group_norm in clusters/{}x{}x{}/{}/{}{}{}{}/sm{}", a.n, a.rows, a.channels,
                  a.groups, to_string(a.x.dtype), to_string(a.y.dtype), static_cast<int>(a.act),
                  joins_text(desc), context().num_sms),
      [&] { return prepare_clusters(desc, info, config, operands); },
      [&] { return prepare_group_norm(desc, info, config, operands); });
}

size_t workspace_layer_norm(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                            Config /*config*/) {
  return makes_codes(desc) && !fuses_layer_norm(desc) ? float_bytes(desc) : 0;
}

std::unique_ptr<Launch> prepare_layer_norm(const graph::OpDesc& desc, const DeviceInfo& info,
                                           Config /*config*/, const Operands& operands) {
  LayerNormArgs args;
  args.num_units = info.num_units;
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

const Kernel group_norm_either =
    in_place(plain_kernel("cuda.group_norm.hopper_or_plain", graph::OpKind::kGroupNorm,
                          supports_clusters, prepare_either, workspace_group_norm));
const Kernel group_norm_hopper = in_place(plain_kernel(
    "cuda.group_norm.hopper", graph::OpKind::kGroupNorm, supports_clusters, prepare_clusters));
const Kernel group_norm_plain =
    in_place(plain_kernel("cuda.group_norm.plain", graph::OpKind::kGroupNorm, supports_group_norm,
                          prepare_group_norm, workspace_group_norm));
const Kernel layer_norm_plain =
    plain_kernel("cuda.layer_norm.plain", graph::OpKind::kLayerNorm, supports_norm,
                 prepare_layer_norm, workspace_layer_norm);

}  // namespace halftone::backend::cuda
