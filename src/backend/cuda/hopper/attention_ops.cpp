// Attention of the graph on the kernels for heads of 64 channels.

#include <fmt/format.h>

#include "backend/cuda/call.h"
#include "backend/cuda/context.h"
#include "backend/cuda/hopper/attention.h"
#include "backend/cuda/hopper/element_of.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/measure.h"

namespace halftone::backend::cuda {
namespace {

using graph::Role;

constexpr int64_t kMaxBlocks = 65535;

// What all three share: heads of 64 channels, nothing empty.
Support supports_heads(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (!info.has("sm_90a")) return Support::no("needs compute capability 9.0");
  const auto& op = desc.as<graph::Attention>();
  const TensorType& y = desc.output();
  for (const graph::TypedOperand& operand : desc.inputs) {
    if (operand.type.shape.num_elements() == 0) return Support::no("nothing to compute");
  }
  if (y.shape[2] != op.heads * hopper::kHeadDim) return Support::no("wants heads of 64 channels");
  if (!(op.scale > 0)) return Support::no("wants a positive scale");
  if (op.heads > kMaxBlocks || y.shape[0] > kMaxBlocks) return Support::no("too many heads");
  return Support::yes();
}

Support supports_half(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (graph::is_quantized(desc.as<graph::Attention>(), desc.inputs)) {
    return Support::no("wants nothing in 8 bits");
  }
  const DType q = desc.input(Role::kQ)->dtype;
  if (q != DType::kF16 && q != DType::kBF16) return Support::no("wants f16 or bf16");
  for (const Role role : {Role::kK, Role::kV}) {
    if (desc.input(role)->dtype != q) return Support::no("operands differ in type");
  }
  return supports_heads(desc, info);
}

hopper::AttentionProblem problem_of(const graph::OpDesc& desc, const Operands& operands) {
  const auto& op = desc.as<graph::Attention>();
  const TensorView& q = *find_view(desc, operands, Role::kQ);
  const TensorView& k = *find_view(desc, operands, Role::kK);
  const TensorView& v = *find_view(desc, operands, Role::kV);
  const TensorView& y = operands.outputs[0];
  const auto pitch = [](const TensorView& view) {
    return view.row_pitch * static_cast<int64_t>(size_of(view.type.dtype));
  };
  hopper::AttentionProblem problem;
  problem.element = *hopper::element_of(q.type.dtype);
  problem.out = *hopper::element_of(y.type.dtype);
  problem.q = q.data;
  problem.k = k.data;
  problem.v = v.data;
  problem.y = y.data;
  problem.batch = q.type.shape[0];
  problem.queries = q.type.shape[1];
  problem.keys = k.type.shape[1];
  problem.heads = op.heads;
  problem.q_pitch = pitch(q);
  problem.k_pitch = pitch(k);
  problem.v_pitch = pitch(v);
  problem.y_pitch = pitch(y);
  problem.scale = static_cast<float>(op.scale);
  problem.causal = op.causal;
  const TensorView* y_scale = find_view(desc, operands, Role::kYScale);
  if (y_scale != nullptr) problem.y_scale = y_scale->as<float>();
  return problem;
}

// --- any number of keys

Support supports_attention(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (desc.as<graph::Attention>().causal) return Support::no("no causal mask");
  return supports_half(desc, info);
}

std::unique_ptr<Launch> prepare_attention(const graph::OpDesc& desc, const DeviceInfo& info,
                                          Config /*config*/, const Operands& operands) {
  const hopper::Attention attention(problem_of(desc, operands), info.num_units);
  return make_launch([attention](cudaStream_t stream) { attention.launch(stream); });
}

// Of one case of this or cuDNN's, whichever is faster here.
std::string key_of(const graph::OpDesc& desc, const Operands& operands) {
  const hopper::AttentionProblem p = problem_of(desc, operands);
  const DType q = desc.input(Role::kQ)->dtype;
  const DType y = desc.output().dtype;
  const std::string to = q == y ? "" : fmt::format(">{}", to_string(y));
  return fmt::format("either2/attention/{}{}/{}x{}x{}x{}/{},{},{},{}/sm{}", to_string(q), to,
                     p.batch, p.heads, p.queries, p.keys, p.q_pitch, p.k_pitch, p.v_pitch,
                     p.y_pitch, context().num_sms);
}

// --- few keys

Support supports_few_keys(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (desc.input(Role::kK)->shape[1] > hopper::kFewKeys) {
    return Support::no("wants at most 128 keys");
  }
  return supports_half(desc, info);
}

std::unique_ptr<Launch> prepare_few_keys(const graph::OpDesc& desc, const DeviceInfo& info,
                                         Config /*config*/, const Operands& operands) {
  const hopper::FewKeysAttention attention(problem_of(desc, operands), info.num_units);
  return make_launch([attention](cudaStream_t stream) { attention.launch(stream); });
}

// --- codes

Support supports_codes(const graph::OpDesc& desc, const DeviceInfo& info) {
  const auto& op = desc.as<graph::Attention>();
  const DType qk = desc.input(Role::kQ)->dtype;
  if (qk != DType::kI8 && qk != DType::kF8E4M3) return Support::no("wants q and k in 8 bits");
  if (desc.input(Role::kV)->dtype != DType::kF8E4M3 || op.probabilities != DType::kF8E4M3) {
    return Support::no("wants v and probabilities in f8e4m3");
  }
  if (op.causal) return Support::no("no causal mask");
  const DType y = desc.output().dtype;
  if (y != DType::kF16 && y != DType::kBF16) return Support::no("makes f16 or bf16");
  return supports_heads(desc, info);
}

size_t workspace_codes(const graph::OpDesc& desc, const DeviceInfo& /*info*/, Config /*config*/) {
  const Shape& k = desc.input(Role::kK)->shape;
  return hopper::codes_workspace_bytes(k[0], k[1], desc.as<graph::Attention>().heads);
}

std::unique_ptr<Launch> prepare_codes(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                      Config /*config*/, const Operands& operands) {
  const TensorView& q_scale = *find_view(desc, operands, Role::kQScale);
  const TensorView& k_scale = *find_view(desc, operands, Role::kKScale);
  hopper::CodesProblem problem;
  problem.base = problem_of(desc, operands);
  problem.q_scale = q_scale.as<float>();
  problem.k_scale = k_scale.as<float>();
  problem.v_scale = find_view(desc, operands, Role::kVScale)->as<float>();
  problem.q_by_part = q_scale.type.shape.num_elements() > 1;
  problem.k_by_part = k_scale.type.shape.num_elements() > 1;
  problem.workspace = operands.workspace;
  const hopper::CodesAttention attention(problem);
  return make_launch([attention](cudaStream_t stream) { attention.launch(stream); });
}

}  // namespace

const Kernel attention_hopper = plain_kernel("cuda.attention.hopper", graph::OpKind::kAttention,
                                             supports_attention, prepare_attention);
const Kernel attention_either = faster_kernel<attention_hopper, attention_cudnn, key_of>(
    "cuda.attention.hopper_or_cudnn", graph::OpKind::kAttention);
const Kernel attention_to_codes_either =
    faster_kernel<attention_hopper, attention_to_codes_cudnn, key_of>(
        "cuda.attention.to_codes.hopper_or_cudnn", graph::OpKind::kAttention);
const Kernel attention_few_keys_hopper =
    plain_kernel("cuda.attention.few_keys.hopper", graph::OpKind::kAttention, supports_few_keys,
                 prepare_few_keys);
const Kernel attention_codes_hopper =
    plain_kernel("cuda.attention.codes.hopper", graph::OpKind::kAttention, supports_codes,
                 prepare_codes, workspace_codes);

}  // namespace halftone::backend::cuda
