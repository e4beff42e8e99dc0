// Linear by oneDNN's matrix product. With geglu the product goes to f32 scratch and a second pass
// gates it.
#include <algorithm>

#include "backend/cpu/kernels.h"
#include "backend/cpu/onednn/fused_call.h"
#include "backend/cpu/parallel.h"

namespace halftone::backend::cpu {
namespace {

using graph::Role;
using onednn::Described;
using onednn::ResidualMode;

int64_t multiply_adds(const graph::OpDesc& desc) {
  return desc.input(Role::kX)->shape.num_elements() * desc.input(Role::kWeight)->shape[0];
}

Described describe(const graph::OpDesc& desc, const DeviceInfo& info) {
  onednn::use_threads(info.num_units, multiply_adds(desc));
  const auto& op = desc.as<graph::Linear>();
  const TensorType& x = *desc.input(Role::kX);
  const Shape& weight = desc.input(Role::kWeight)->shape;
  const bool split = desc.input(Role::kRowAdd) != nullptr && x.shape.rank() > 1;
  const int64_t rows = split ? x.shape.num_rows() / x.shape[0] : x.shape.num_rows();
  const dnnl::memory::desc src = onednn::dense({rows, weight[1]}, x.dtype);
  const dnnl::memory::desc dst = onednn::dense({rows, weight[0]}, op.geglu ? DType::kF32 : x.dtype);
  const dnnl::memory::desc weights({weight[1], weight[0]}, onednn::data_type(x.dtype),
                                   dnnl::memory::format_tag::any);
  const dnnl::memory::desc bias = onednn::dense({1, weight[0]}, DType::kF32);
  const auto make = [&](ResidualMode residual) {
    const dnnl::matmul::primitive_desc descriptor(
        dnnl::matmul::desc(src, weights, bias, dst),
        onednn::make_attributes(op.activation, residual, dst), onednn::engine());
    return onednn::describe<dnnl::matmul>(descriptor, residual);
  };
  return onednn::choose(!op.geglu && desc.input(Role::kResidual) != nullptr, make);
}

Support supports(const graph::OpDesc& desc, const DeviceInfo& info) {
  const DType dtype = desc.output().dtype;
  if (const Support vector = supports_vector_ops(desc, info); !vector.ok) return vector;
  if (graph::has_row_statistics(desc)) return Support::no("no row statistics");
  if (dtype == DType::kF16) return Support::no("f16 is not oneDNN's on this processor");
  if (dtype == DType::kF32 && !info.has("avx512"))
    return Support::no("f32 is fast on AVX-512 only");
  if (dtype == DType::kBF16 && !info.has("avx512_bf16") && !info.has("amx_bf16")) {
    return Support::no("bf16 needs AVX512_BF16 or AMX");
  }
  if (desc.input(Role::kWeight)->dtype != dtype) return Support::no("weights of another type");
  const TensorType* residual = desc.input(Role::kResidual);
  if (residual != nullptr && residual->dtype != dtype)
    return Support::no("residual of another type");
  for (const graph::TypedOperand& operand : desc.inputs) {
    if (operand.type.shape.num_elements() == 0) return Support::no("empty operand");
  }
  return Support::yes();
}

onednn::FusedScratch scratch_of(const graph::OpDesc& desc, const Described& described, void* base) {
  const int64_t outputs = desc.input(Role::kWeight)->shape[0];
  const int64_t rows = desc.output().shape.num_rows();
  const int64_t gated = desc.as<graph::Linear>().geglu ? rows * outputs : 0;
  return {described, outputs, 0, static_cast<size_t>(gated) * sizeof(float), base};
}

size_t workspace_bytes(const graph::OpDesc& desc, const DeviceInfo& info, Config /*config*/) {
  return scratch_of(desc, describe(desc, info), nullptr).bytes;
}

size_t packed_bytes(const graph::OpDesc& desc, const DeviceInfo& info, Config /*config*/) {
  return describe(desc, info).weights.get_size();
}

std::string pack_key(const graph::OpDesc& desc, const DeviceInfo& info, Config /*config*/) {
  return onednn::layout_key(describe(desc, info).weights);
}

void pack(const graph::OpDesc& desc, const DeviceInfo& info, Config /*config*/,
          const TensorView& weight, void* packed) {
  const Shape& shape = weight.type.shape;
  const dnnl::memory::desc from =
      onednn::dense({shape[0], shape[1]}, DType::kF32).permute_axes({1, 0});
  onednn::pack_weight(vector_ops(info), weight, from, describe(desc, info).weights, packed);
}

// y = h * gelu(g) + residual for rows [h, g].
struct Gate {
  Rows from, residual, y;

  void row(const VectorOps& ops, int64_t r) const {
    constexpr int64_t kPiece = 1024;
    for (int64_t col = 0; col < y.size; col += kPiece) {
      alignas(64) float values[kPiece], others[kPiece];
      const int64_t n = std::min(kPiece, y.size - col);
      ops.load(from.dtype, from.at(r, col), values, n);
      ops.load(from.dtype, from.at(r, y.size + col), others, n);
      ops.multiply_gelu(values, others, values, n);
      if (residual) {
        ops.load(residual.dtype, residual.at(r, col), others, n);
        ops.add(values, others, values, n);
      }
      ops.store(values, y.dtype, y.at(r, col), n);
    }
  }
};

std::unique_ptr<Launch> prepare(const graph::OpDesc& desc, const DeviceInfo& info,
                                Config /*config*/, const Operands& operands) {
  const Described described = describe(desc, info);
  const onednn::FusedScratch scratch = scratch_of(desc, described, operands.workspace);
  const Shape& x_shape = desc.input(Role::kX)->shape;
  onednn::FusedOperands fused{.x = find_rows(desc, operands, Role::kX),
                              .bias = find_rows(desc, operands, Role::kBias),
                              .row_add = find_rows(desc, operands, Role::kRowAdd),
                              .residual = find_rows(desc, operands, Role::kResidual),
                              .y = Rows(operands.outputs[0]),
                              .weight = find_view(desc, operands, Role::kWeight)->data,
                              .multiply_adds = multiply_adds(desc),
                              .batch = x_shape.rank() > 1 ? x_shape[0] : 1};
  const Rows y = fused.y;
  if (!desc.as<graph::Linear>().geglu) {
    const auto call = std::make_shared<onednn::FusedCall>(described, fused, scratch, info);
    return make_launch([call] { call->run(); });
  }
  fused.y = Rows(TensorView({DType::kF32, {y.count, 2 * y.size}}, scratch.dst));
  const Gate gate{fused.y, fused.residual, y};
  fused.residual = {};
  const auto call = std::make_shared<onednn::FusedCall>(described, fused, scratch, info);
  return make_launch([call, gate, ops = vector_ops(info), threads = info.num_units] {
    call->run();
    constexpr int64_t kRows = 8;  // a task's
    parallel_for(threads, divide_up(gate.y.count, kRows), [&](int64_t task, int) {
      const int64_t last = std::min(gate.y.count, (task + 1) * kRows);
      for (int64_t r = task * kRows; r < last; ++r) gate.row(*ops, r);
    });
  });
}

}  // namespace

const Kernel linear_onednn = {.name = "cpu.linear.onednn",
                              .op = graph::OpKind::kLinear,
                              .supports = supports,
                              .configs = nullptr,
                              .workspace_bytes = workspace_bytes,
                              .packed_bytes = packed_bytes,
                              .pack_key = pack_key,
                              .pack = pack,
                              .prepare = prepare};

}  // namespace halftone::backend::cpu
