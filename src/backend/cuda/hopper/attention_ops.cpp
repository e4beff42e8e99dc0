// Attention of the graph on the kernels for heads of 64 channels.
#include "backend/cuda/hopper/attention_ops.h"

#include <optional>

#include <fmt/format.h>

#include "backend/cuda/call.h"
#include "backend/cuda/context.h"
#include "backend/cuda/hopper/attention.h"
#include "backend/cuda/hopper/element_of.h"
#include "backend/cuda/hopper/project_attention.h"
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

// x takes the place of q where the kernel computes that.
hopper::AttentionProblem problem_of(const graph::OpDesc& desc, const Operands& operands) {
  const auto& op = desc.as<graph::Attention>();
  const TensorView* x = find_view(desc, operands, Role::kX);
  const TensorView& q = x != nullptr ? *x : *find_view(desc, operands, Role::kQ);
  const TensorView& k = *find_view(desc, operands, Role::kK);
  const TensorView& v = *find_view(desc, operands, Role::kV);
  const TensorView& y = operands.outputs[0];
  const auto pitch = [](const TensorView& view) {
    return view.row_pitch * static_cast<int64_t>(size_of(view.type.dtype));
  };
  hopper::AttentionProblem problem;
  problem.element = *hopper::element_of(k.type.dtype);
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
  return fmt::format("either3/attention/{}{}/{}x{}x{}x{}/{},{},{},{}/sm{}", to_string(q), to,
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

// --- few keys, with the linear of the queries

using hopper::ProjectAttention;
using hopper::ProjectKernel;
using hopper::ProjectProblem;

Support supports_project(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (!graph::projects_queries(desc)) return Support::no("wants x and the weight of the queries");
  if (graph::is_quantized(desc.as<graph::Attention>(), desc.inputs)) {
    return Support::no("wants k, v and probabilities in 16 bits");
  }
  const DType k = desc.input(Role::kK)->dtype;
  if (k != DType::kF16 && k != DType::kBF16) return Support::no("wants keys in f16 or bf16");
  if (desc.input(Role::kV)->dtype != k) return Support::no("keys and values differ in type");
  const TensorType& x = *desc.input(Role::kX);
  if (desc.input(Role::kWeight)->dtype != x.dtype)
    return Support::no("x and weight differ in type");
  if (desc.as<graph::Attention>().causal) return Support::no("no causal mask");
  if (desc.input(Role::kK)->shape[1] > hopper::kTextKeys)
    return Support::no("wants at most 80 keys");
  constexpr int64_t kCopyAlignment = 16;  // bytes
  if (x.shape[2] * static_cast<int64_t>(size_of(x.dtype)) % kCopyAlignment != 0) {
    return Support::no("rows of x are no multiple of 16 bytes");
  }
  constexpr int64_t kLargest = int64_t{1} << 31;
  if (x.shape.num_rows() >= kLargest || x.shape[2] >= kLargest) return Support::no("too large");
  return supports_heads(desc, info);
}

// Pitches hardly matter, and those of keys differ from layer to layer.
std::string project_key(const ProjectProblem& p) {
  const hopper::AttentionProblem& a = p.attention;
  return fmt::format("project1/{}{}{}{}/{}x{}x{}x{}x{}/sm{}", static_cast<int>(p.in),
                     static_cast<int>(a.element), static_cast<int>(a.out), p.row_scales ? 't' : '-',
                     a.batch, a.heads, a.queries, p.channels, a.keys, context().num_sms);
}

// The fastest, by measurement or from the cache.
ProjectAttention choose(const ProjectProblem& problem) {
  const std::vector<const ProjectKernel*> all = hopper::project_candidates(problem);
  const std::string key = project_key(problem);
  if (const auto known = context().tuning.find(key)) {
    for (const ProjectKernel* kernel : all) {
      if (kernel->name() == *known) return {*kernel, problem};
    }
  }
  std::optional<ProjectAttention> best;
  double best_ms = 0;
  for (const ProjectKernel* kernel : all) {
    const ProjectAttention attention(*kernel, problem);
    const double ms = measure_ms([&] { attention.launch(context().stream); });
    if (best && ms >= best_ms) continue;
    best = attention;
    best_ms = ms;
    context().tuning.insert(key, kernel->name());
  }
  return *best;
}

std::unique_ptr<Launch> prepare_project(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                        Config /*config*/, const Operands& operands) {
  return make_launch([attention = choose(project_problem_of(desc, operands))](cudaStream_t stream) {
    attention.launch(stream);
  });
}

constexpr Kernel project_kernel() {
  Kernel kernel = plain_kernel("cuda.attention.project.hopper", graph::OpKind::kAttention,
                               supports_project, prepare_project);
  kernel.projects_queries = true;
  return kernel;
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
  const bool to_codes = desc.input(Role::kYScale) != nullptr;
  if (!to_codes && y != DType::kF16 && y != DType::kBF16) {
    return Support::no("makes f16, bf16 or codes");
  }
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

hopper::ProjectProblem project_problem_of(const graph::OpDesc& desc, const Operands& operands) {
  const TensorView& x = *find_view(desc, operands, Role::kX);
  const TensorView& weight = *find_view(desc, operands, Role::kWeight);
  const TensorView* x_scale = find_view(desc, operands, Role::kXScale);
  ProjectProblem p;
  p.attention = problem_of(desc, operands);
  p.in = *hopper::element_of(x.type.dtype);
  p.channels = x.type.shape[2];
  p.weight = weight.data;
  p.weight_pitch = weight.row_pitch * hopper::bytes_of(p.in);
  p.constant_weight = is_constant(desc, operands, Role::kWeight);
  if (x_scale == nullptr) return p;
  p.row_scale = x_scale->as<float>();
  p.row_scales = x_scale->type.shape.num_elements() > 1;
  p.column_scale = find_view(desc, operands, Role::kWScale)->as<float>();
  return p;
}

const Kernel attention_hopper = plain_kernel("cuda.attention.hopper", graph::OpKind::kAttention,
                                             supports_attention, prepare_attention);
// How long the own kernel takes depends on scores: where maxima rise, tiles are taken twice.
const Kernel attention_either =
    faster_kernel<attention_hopper, attention_cudnn, key_of, faster_on_zeros>(
        "cuda.attention.hopper_or_cudnn", graph::OpKind::kAttention);
const Kernel attention_to_codes_either =
    faster_kernel<attention_hopper, attention_to_codes_cudnn, key_of, faster_on_zeros>(
        "cuda.attention.to_codes.hopper_or_cudnn", graph::OpKind::kAttention);
const Kernel attention_few_keys_hopper =
    plain_kernel("cuda.attention.few_keys.hopper", graph::OpKind::kAttention, supports_few_keys,
                 prepare_few_keys);
const Kernel attention_project_hopper = project_kernel();
const Kernel attention_codes_hopper =
    plain_kernel("cuda.attention.codes.hopper", graph::OpKind::kAttention, supports_codes,
                 prepare_codes, workspace_codes);

}  // namespace halftone::backend::cuda
