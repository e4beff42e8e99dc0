// Attention: cuDNN's fused kernel (head widths up to 128; codes by a launch behind it), two
// products with a softmax between them (wide heads, scores in pieces), a kernel for few keys
// (causal texts), plain ones for values and for codes, and the centring of keys.
#include <algorithm>
#include <functional>

#include <fmt/format.h>

#include "halftone/error.h"

#include "backend/cuda/call.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/libraries/cudnn_graph.h"
#include "backend/cuda/libraries/matmul.h"
#include "backend/cuda/quantize.h"

namespace halftone::backend::cuda {
namespace {

using graph::Role;
using TensorId = CudnnGraph::TensorId;

constexpr size_t kCudnnWorkspace = size_t{4} << 20;
constexpr size_t kMatmulWorkspace = size_t{16} << 20;
constexpr int kCandidates = 2;
constexpr int64_t kMaxCudnnHeadDim = 128;
constexpr int64_t kScoreBytes = int64_t{128} << 20;  // of one piece, f32
constexpr size_t kAlignment = 256;

AttentionArgs make_args(const graph::OpDesc& desc, const Operands& operands) {
  const auto& op = desc.as<graph::Attention>();
  const TensorView& q = *find_view(desc, operands, Role::kQ);
  const TensorView& k = *find_view(desc, operands, Role::kK);
  const TensorView& v = *find_view(desc, operands, Role::kV);
  const TensorView& y = operands.outputs[0];
  AttentionArgs args;
  args.q = typed(q);
  args.k = typed(k);
  args.v = typed(v);
  args.y = typed_out(y);
  args.batch = q.type.shape[0];
  args.queries = q.type.shape[1];
  args.keys = k.type.shape[1];
  args.heads = op.heads;
  args.head_dim = q.type.shape[2] / op.heads;
  args.q_pitch = q.row_pitch;
  args.k_pitch = k.row_pitch;
  args.v_pitch = v.row_pitch;
  args.y_pitch = y.row_pitch;
  args.scale = static_cast<float>(op.scale);
  args.causal = op.causal;
  return args;
}

// Operands of one 16-bit type, nothing empty; the result in the same, or in codes where `to_codes`.
Support supports_half(const graph::OpDesc& desc, bool to_codes = false) {
  if (graph::is_quantized(desc.as<graph::Attention>(), desc.inputs)) {
    return Support::no("no 8-bit attention");
  }
  if ((desc.input(Role::kYScale) != nullptr) != to_codes) {
    return Support::no(to_codes ? "makes codes" : "makes no codes");
  }
  const DType dtype = desc.input(Role::kQ)->dtype;
  if (dtype != DType::kF16 && dtype != DType::kBF16) return Support::no("wants f16 or bf16");
  for (const Role role : {Role::kQ, Role::kK, Role::kV}) {
    if (desc.input(role)->dtype != dtype) return Support::no("operands differ in type");
    if (desc.input(role)->shape.num_elements() == 0) return Support::no("nothing to compute");
  }
  return Support::yes();
}

int64_t head_dim_of(const graph::OpDesc& desc) {
  return desc.output().shape[2] / desc.as<graph::Attention>().heads;
}

// --- cuDNN

Support supports_fused(const graph::OpDesc& desc, const DeviceInfo& info, bool to_codes) {
  if (!info.has("cudnn_attention")) return Support::no("needs cuDNN 9.13.1 (libcudnn.so.9)");
  if (desc.as<graph::Attention>().causal) return Support::no("no causal mask");
  const int64_t d = head_dim_of(desc);
  if (d % 8 != 0 || d > kMaxCudnnHeadDim) {
    return Support::no("wants head widths that are multiples of 8 up to 128");
  }
  return supports_half(desc, to_codes);
}

Support supports_cudnn(const graph::OpDesc& desc, const DeviceInfo& info) {
  return supports_fused(desc, info, false);
}

size_t workspace_cudnn(const graph::OpDesc& /*desc*/, const DeviceInfo& /*info*/,
                       Config /*config*/) {
  return kCudnnWorkspace;
}

std::shared_ptr<const CudnnGraph> make_graph(const AttentionArgs& a, void* workspace) {
  auto graph = std::make_shared<CudnnGraph>();
  const DType dtype = a.q.dtype;
  const int64_t d = a.head_dim;
  const auto operand = [&](Typed t, int64_t tokens, int64_t pitch) {
    return graph->tensor(dtype, {a.batch, a.heads, tokens, d}, {tokens * pitch, d, pitch, 1},
                         const_cast<void*>(t.data));
  };
  const TensorId q = operand(a.q, a.queries, a.q_pitch);
  const TensorId k = operand(a.k, a.keys, a.k_pitch);
  const TensorId v = operand(a.v, a.keys, a.v_pitch);
  const TensorId y = operand({a.y.data, a.y.dtype}, a.queries, a.y_pitch);
  graph->attention(q, k, v, graph->scalar(a.scale, 4), y);
  graph->choose(
      fmt::format("attention/{}/{}x{}x{}x{}x{}/{},{},{},{}", to_string(dtype), a.batch, a.heads,
                  a.queries, a.keys, d, a.q_pitch, a.k_pitch, a.v_pitch, a.y_pitch),
      kCandidates, workspace, kCudnnWorkspace);
  return graph;
}

std::function<void(cudaStream_t)> fused(const AttentionArgs& args, void* workspace) {
  try {
    const auto graph = make_graph(args, workspace);
    return [graph](cudaStream_t stream) { graph->enqueue(stream); };
  } catch (const Error& error) {
    // Which shapes cuDNN takes depends on its version, and only it can tell.
    if (error.code() != Errc::kUnsupported) throw;
  }
  return [args](cudaStream_t stream) { launch_plain_attention(args, stream); };
}

std::unique_ptr<Launch> prepare_cudnn(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                      Config /*config*/, const Operands& operands) {
  return make_launch(fused(make_args(desc, operands), operands.workspace));
}

// --- cuDNN, and its result in codes: values lie behind its workspace

Support supports_cudnn_to_codes(const graph::OpDesc& desc, const DeviceInfo& info) {
  return supports_fused(desc, info, true);
}

size_t workspace_cudnn_to_codes(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                Config /*config*/) {
  return kCudnnWorkspace + static_cast<size_t>(desc.output().shape.num_elements()) *
                               size_of(desc.input(Role::kQ)->dtype);
}

std::unique_ptr<Launch> prepare_cudnn_to_codes(const graph::OpDesc& desc,
                                               const DeviceInfo& /*info*/, Config /*config*/,
                                               const Operands& operands) {
  const TensorView& y = operands.outputs[0];
  AttentionArgs args = make_args(desc, operands);
  args.y = {static_cast<std::byte*>(operands.workspace) + kCudnnWorkspace, args.q.dtype};
  QuantizeArgs codes;
  codes.x = {args.y.data, args.y.dtype};
  codes.y = y.data;
  codes.format = code_format(y.type.dtype, 8, false);
  codes.scale_in = find_view(desc, operands, Role::kYScale)->as<float>();
  codes.rows = y.type.shape.num_rows();
  codes.cols = y.type.shape.row_size();
  codes.rows_per_scale = codes.rows;
  return make_launch([=, attend = fused(args, operands.workspace)](cudaStream_t stream) {
    attend(stream);
    launch_quantize(codes, stream);
  });
}

// --- products

Support supports_matmul(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (!info.has("cublaslt")) return Support::no("needs cuBLASLt (libcublasLt)");
  if (desc.as<graph::Attention>().causal) return Support::no("no causal mask");
  const int64_t keys = desc.input(Role::kK)->shape[1];
  if (head_dim_of(desc) % 8 != 0 || keys % 8 != 0) {
    return Support::no("wants head widths and numbers of keys that are multiples of 8");
  }
  return supports_half(desc);
}

size_t aligned(int64_t bytes) {
  return (static_cast<size_t>(bytes) + kAlignment - 1) / kAlignment * kAlignment;
}

// How the workspace is divided; `rows` queries are done at a time.
struct Pieces {
  int64_t rows;
  size_t scores, weights, sums, result, total;
  explicit Pieces(const graph::OpDesc& desc) {
    const int64_t queries = desc.output().shape[1];
    const int64_t keys = desc.input(Role::kK)->shape[1];
    rows = std::clamp<int64_t>(kScoreBytes / (keys * 4), 1, queries);
    scores = kMatmulWorkspace;
    weights = scores + aligned(rows * keys * 4);
    sums = weights + aligned(rows * keys * 2);
    result = sums + aligned(rows * 4);
    total = result + aligned(rows * head_dim_of(desc) * 4);
  }
};

size_t workspace_matmul(const graph::OpDesc& desc, const DeviceInfo& /*info*/, Config /*config*/) {
  return Pieces(desc).total;
}

// One piece of a head: scores, weights, result.
struct Piece {
  Matmul scores, result;
  int64_t rows;
  TypedOut y;
};

// Scores stay in f32 and weights are at most 1, so that f16 neither overflows nor loses small
// weights; the division by their sum comes last.
std::unique_ptr<Launch> prepare_matmul(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                       Config /*config*/, const Operands& operands) {
  const AttentionArgs a = make_args(desc, operands);
  const Pieces pieces(desc);
  auto* workspace = static_cast<std::byte*>(operands.workspace);
  auto* scores = reinterpret_cast<float*>(workspace + pieces.scores);
  void* weights = workspace + pieces.weights;
  auto* sums = reinterpret_cast<float*>(workspace + pieces.sums);
  auto* result = reinterpret_cast<float*>(workspace + pieces.result);
  const auto size = static_cast<int64_t>(size_of(a.q.dtype));
  const auto at = [&](const void* base, int64_t n, int64_t tokens, int64_t row, int64_t pitch,
                      int64_t head) {
    return static_cast<const std::byte*>(base) +
           ((n * tokens + row) * pitch + head * a.head_dim) * size;
  };
  std::vector<Piece> list;
  for (int64_t n = 0; n < a.batch; ++n) {
    for (int64_t head = 0; head < a.heads; ++head) {
      for (int64_t row = 0; row < a.queries; row += pieces.rows) {
        MatmulArgs first;
        first.dtype = a.q.dtype;
        first.y_dtype = DType::kF32;
        first.rows = std::min(pieces.rows, a.queries - row);
        first.in = a.head_dim;
        first.out = a.keys;
        first.x = at(a.q.data, n, a.queries, row, a.q_pitch, head);
        first.x_pitch = a.q_pitch;
        first.weight = at(a.k.data, n, a.keys, 0, a.k_pitch, head);
        first.weight_pitch = a.k_pitch;
        first.y = scores;
        first.y_pitch = a.keys;
        first.workspace = workspace;
        first.workspace_bytes = kMatmulWorkspace;
        MatmulArgs second = first;
        second.in = a.keys;
        second.out = a.head_dim;
        second.x = weights;
        second.x_pitch = a.keys;
        second.weight = at(a.v.data, n, a.keys, 0, a.v_pitch, head);
        second.weight_pitch = a.v_pitch;
        second.weight_is_in_out = true;
        second.y = result;
        second.y_pitch = a.head_dim;
        void* y = const_cast<std::byte*>(at(a.y.data, n, a.queries, row, a.y_pitch, head));
        list.push_back({Matmul(first), Matmul(second), first.rows, {y, a.y.dtype}});
      }
    }
  }
  return make_launch([=, list = std::move(list)](cudaStream_t stream) {
    for (const Piece& piece : list) {
      piece.scores.enqueue(stream);
      launch_softmax_rows(scores, weights, a.q.dtype, sums, piece.rows, a.keys, a.scale, stream);
      piece.result.enqueue(stream);
      launch_divide_rows(result, sums, piece.y, piece.rows, a.head_dim, a.y_pitch, stream);
    }
  });
}

// --- plain

Support supports_short(const graph::OpDesc& desc, const DeviceInfo& /*info*/) {
  const int64_t keys = desc.input(Role::kK)->shape[1];
  const int64_t d = head_dim_of(desc);
  if (keys > kShortAttentionMaxKeys || d > kShortAttentionMaxHeadDim || d % 8 != 0) {
    return Support::no("wants at most 128 keys, head widths that are multiples of 8 up to 128");
  }
  return supports_half(desc);
}

std::unique_ptr<Launch> prepare_short(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                      Config /*config*/, const Operands& operands) {
  const AttentionArgs args = make_args(desc, operands);
  return make_launch([args](cudaStream_t stream) { launch_short_attention(args, stream); });
}

Support supports_plain(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (graph::is_quantized(desc.as<graph::Attention>(), desc.inputs)) {
    return Support::no("no 8-bit attention");
  }
  if (desc.input(Role::kYScale) != nullptr) return Support::no("makes no codes");
  if (head_dim_of(desc) > kPlainAttentionMaxHeadDim) {
    return Support::no("wants head widths up to 512");
  }
  return supports_floats(desc, info);
}

std::unique_ptr<Launch> prepare_plain(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                      Config /*config*/, const Operands& operands) {
  const AttentionArgs args = make_args(desc, operands);
  return make_launch([args](cudaStream_t stream) { launch_plain_attention(args, stream); });
}

// --- plain, 8 bits

Support supports_codes(const graph::OpDesc& desc, const DeviceInfo& /*info*/) {
  if (!graph::is_quantized(desc.as<graph::Attention>(), desc.inputs)) {
    return Support::no("nothing is in 8 bits");
  }
  if (head_dim_of(desc) > kPlainAttentionMaxHeadDim) {
    return Support::no("wants head widths up to 512");
  }
  for (const graph::TypedOperand& operand : desc.inputs) {
    if (!is_plain_float(operand.type.dtype) && !graph::is_quantized(operand.type.dtype)) {
      return Support::no("wants f32, f16, bf16 or codes");
    }
  }
  return is_plain_float(desc.output().dtype) ? Support::yes()
                                             : Support::no("makes f32, f16 or bf16");
}

std::unique_ptr<Launch> prepare_codes(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                      Config /*config*/, const Operands& operands) {
  CodesAttentionArgs args;
  args.base = make_args(desc, operands);
  const auto scale = [&](Role role, bool* by_part) -> const float* {
    const TensorView* view = find_view(desc, operands, role);
    if (view == nullptr) return nullptr;
    if (by_part != nullptr) *by_part = view->type.shape.num_elements() > 1;
    return view->as<float>();
  };
  args.q_scale = scale(Role::kQScale, &args.q_by_part);
  args.k_scale = scale(Role::kKScale, &args.k_by_part);
  args.v_scale = scale(Role::kVScale, nullptr);
  args.rounds = desc.as<graph::Attention>().probabilities == DType::kF8E4M3;
  return make_launch([args](cudaStream_t stream) { launch_codes_attention(args, stream); });
}

std::unique_ptr<Launch> prepare_center(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                       Config /*config*/, const Operands& operands) {
  const TensorView& x = *find_view(desc, operands, Role::kX);
  const Shape& shape = x.type.shape;
  const CenterArgs args{typed(x), typed_out(operands.outputs[0]), shape[0], shape[1], shape[2]};
  return make_launch([args](cudaStream_t stream) { launch_center(args, stream); });
}

}  // namespace

const Kernel attention_cudnn = plain_kernel("cuda.attention.cudnn", graph::OpKind::kAttention,
                                            supports_cudnn, prepare_cudnn, workspace_cudnn);
const Kernel attention_to_codes_cudnn =
    plain_kernel("cuda.attention.to_codes.cudnn", graph::OpKind::kAttention,
                 supports_cudnn_to_codes, prepare_cudnn_to_codes, workspace_cudnn_to_codes);
const Kernel attention_matmul = plain_kernel("cuda.attention.matmul", graph::OpKind::kAttention,
                                             supports_matmul, prepare_matmul, workspace_matmul);
const Kernel attention_short = plain_kernel("cuda.attention.short.plain", graph::OpKind::kAttention,
                                            supports_short, prepare_short);
const Kernel attention_plain =
    plain_kernel("cuda.attention.plain", graph::OpKind::kAttention, supports_plain, prepare_plain);
const Kernel attention_codes_plain = plain_kernel(
    "cuda.attention.codes.plain", graph::OpKind::kAttention, supports_codes, prepare_codes);
const Kernel center_plain =
    plain_kernel("cuda.center.plain", graph::OpKind::kCenter, supports_floats, prepare_center);

}  // namespace halftone::backend::cuda
