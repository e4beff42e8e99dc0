#include "backend/cuda/call.h"

#include <fmt/format.h>

namespace halftone::backend::cuda {
namespace {

// Rows for which linears with row statistics beat linears and a norm of its own, as measured
// (docs/performance.md). Of fewer, texts, the library's kernels win; of more, each column of tiles
// merges the statistics again while its main loop waits for memory.
constexpr int64_t kFewestDescribed = 200;
constexpr int64_t kMostDescribed = 1024;

}  // namespace

const TensorView* find_view(const graph::OpDesc& desc, const Operands& operands, graph::Role role) {
  for (size_t i = 0; i < desc.inputs.size(); ++i) {
    if (desc.inputs[i].role == role) return &operands.inputs[i];
  }
  return nullptr;
}

float* find_output(const graph::OpDesc& desc, const Operands& operands, graph::Role role) {
  for (size_t i = 0; i < desc.outputs.size(); ++i) {
    if (desc.outputs[i].role == role) return operands.outputs[i].as<float>();
  }
  return nullptr;
}

GroupNormArgs group_statistics_args(const graph::OpDesc& desc, const Operands& operands) {
  GroupNormArgs args;
  args.statistics = find_output(desc, operands, graph::Role::kGroupStatistics);
  if (args.statistics == nullptr) return args;
  const Shape& y = desc.output().shape;
  args.x = typed(operands.outputs[0]);
  args.n = y[0];
  args.rows = y.num_rows() / y[0];
  args.channels = args.split = y.row_size();
  args.groups = desc.outputs[1].type.shape[1];
  args.piece_rows = static_cast<int>(graph::kRowsPerPiece);
  args.pieces = static_cast<int>(args.rows / graph::kRowsPerPiece);
  return args;
}

bool is_constant(const graph::OpDesc& desc, const Operands& operands, graph::Role role) {
  for (size_t i = 0; i < desc.inputs.size() && i < 32; ++i) {
    if (desc.inputs[i].role == role) return (operands.constants >> i & 1) != 0;
  }
  return false;
}

Typed find_typed(const graph::OpDesc& desc, const Operands& operands, graph::Role role) {
  const TensorView* view = find_view(desc, operands, role);
  return view == nullptr ? Typed() : typed(*view);
}

bool is_plain_float(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

Support supports_floats(const graph::OpDesc& desc, const DeviceInfo& /*info*/) {
  for (const auto operands : {desc.inputs, desc.outputs}) {
    for (const graph::TypedOperand& operand : operands) {
      if (operand.role == graph::Role::kIndex || is_plain_float(operand.type.dtype)) continue;
      return Support::no(fmt::format("operand '{}' is {}; wants f32, f16 or bf16",
                                     graph::to_string(operand.role),
                                     to_string(operand.type.dtype)));
    }
  }
  return Support::yes();
}

Support supports_row_statistics(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (!graph::has_row_statistics(desc)) return Support::yes();
  if (!info.has("sm_90a")) return Support::no("row statistics pay on compute capability 9.0");
  if (size_of(desc.output().dtype) != 2) return Support::no("row statistics of 16 bits only");
  const int64_t rows = desc.output().shape.num_rows();
  if (rows < kFewestDescribed || rows > kMostDescribed) {
    return Support::no(
        fmt::format("a norm of its own is faster for fewer than {} and more than {} rows",
                    kFewestDescribed, kMostDescribed));
  }
  return Support::yes();
}

EpilogueArgs epilogue_of(const graph::OpDesc& desc, const Operands& operands, Typed x) {
  const TensorView& y = operands.outputs[0];
  const Shape& shape = y.type.shape;
  EpilogueArgs args;
  args.x = x;
  args.bias = find_typed(desc, operands, graph::Role::kBias);
  args.row_add = find_typed(desc, operands, graph::Role::kRowAdd);
  args.residual = find_typed(desc, operands, graph::Role::kResidual);
  args.y = typed_out(y);
  args.rows = shape.num_rows();
  args.cols = shape.row_size();
  const bool has_batch = shape.rank() > 1 && shape[0] > 0 && args.rows > 0;
  args.rows_per_batch = has_batch ? args.rows / shape[0] : 1;
  if (const auto* linear = std::get_if<graph::Linear>(&desc.attrs)) {
    args.act = act_of(linear->activation);
    args.geglu = linear->geglu;
    if (const TensorView* statistics = find_view(desc, operands, graph::Role::kRowStatistics)) {
      args.norm = {statistics->as<const float>(),
                   find_view(desc, operands, graph::Role::kColumnSum)->as<const float>(),
                   desc.input(graph::Role::kX)->shape.row_size(), static_cast<float>(linear->eps)};
    }
  } else if (const auto* conv = std::get_if<graph::Conv2d>(&desc.attrs)) {
    args.act = act_of(conv->activation);
  }
  return args;
}

}  // namespace halftone::backend::cuda
