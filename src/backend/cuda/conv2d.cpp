// Convolutions: own kernels for the narrow ends of a network; cuDNN with bias and residual in its
// epilogue where it takes them, else followed by our own; and the plain kernel for the rest.
#include <algorithm>

#include <fmt/format.h>

#include "halftone/error.h"

#include "backend/cuda/call.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/libraries/cudnn_graph.h"

namespace halftone::backend::cuda {
namespace {

using graph::Role;
using TensorId = CudnnGraph::TensorId;

constexpr int kCandidates = 3;
// cuDNN 9.19's generated kernels read bias and residual of other widths at misaligned addresses,
// and an operand that differs by batch row at any width: row adds are left to our epilogue.
constexpr int64_t kFusedOutputs = 64;

Support supports_cudnn(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (graph::is_interleaved(desc)) return Support::no("does not interleave");
  if (!info.has("cudnn")) return Support::no("needs cuDNN 9 (libcudnn.so.9)");
  const TensorType& x = *desc.input(Role::kX);
  const TensorType& weight = *desc.input(Role::kWeight);
  if (x.dtype != DType::kF16 && x.dtype != DType::kBF16) return Support::no("wants f16 or bf16");
  if (desc.output().dtype != x.dtype) return Support::no("the output has another element type");
  for (const graph::TypedOperand& operand : desc.inputs) {
    if (operand.type.dtype != x.dtype) return Support::no("operands differ in type");
  }
  if (desc.output().shape.num_elements() == 0) return Support::no("nothing to compute");
  if (weight.shape[0] % 4 != 0 || weight.shape[3] % 4 != 0) {
    return Support::no("wants multiples of 4 channels");
  }
  return Support::yes();
}

// What cuDNN may take: f32 sums of y in four parts. Small convolutions divide their terms so; the
// large ones would take what they are given (transforms), hence a limit.
size_t library_workspace(const TensorType& y) {
  constexpr size_t kLeast = size_t{1} << 20;
  constexpr size_t kMost = size_t{64} << 20;
  const auto sums = static_cast<size_t>(y.shape.num_elements()) * sizeof(float);
  return std::clamp(4 * sums, kLeast, kMost);
}

size_t workspace_cudnn(const graph::OpDesc& desc, const DeviceInfo& /*info*/, Config /*config*/) {
  return library_workspace(desc.output());
}

// [n, h, w, c] in memory as cuDNN's (n, c, h, w).
struct Nhwc {
  std::vector<int64_t> dims, strides;
  explicit Nhwc(const Shape& s)
      : dims{s[0], s[3], s[1], s[2]}, strides{s[1] * s[2] * s[3], 1, s[2] * s[3], s[3]} {}
};

struct Problem {
  const graph::OpDesc& desc;
  const Operands& operands;
  const TensorView& x;
  const TensorView& weight;
  const TensorView& y;
  CudnnConv conv;

  Problem(const graph::OpDesc& d, const Operands& o)
      : desc(d),
        operands(o),
        x(*find_view(d, o, Role::kX)),
        weight(*find_view(d, o, Role::kWeight)),
        y(o.outputs[0]) {
    const auto& op = d.as<graph::Conv2d>();
    conv = {op.stride, op.pad_begin, op.pad_end};
  }

  [[nodiscard]] std::string key(bool fused) const {
    std::string text =
        fmt::format("conv/{}/{}/{},{},{}/{}", to_string(x.type), to_string(weight.type.shape),
                    conv.stride, conv.pad_begin, conv.pad_end, fused ? "+" : "");
    for (const Role role : {Role::kBias, Role::kResidual}) {
      if (fused && desc.input(role) != nullptr) text += graph::to_string(role);
    }
    return text;
  }
};

std::unique_ptr<CudnnGraph> make_graph(const Problem& p, bool fused) {
  auto graph = std::make_unique<CudnnGraph>();
  const DType dtype = p.x.type.dtype;
  const Nhwc x(p.x.type.shape);
  const Nhwc weight(p.weight.type.shape);
  const Nhwc y(p.y.type.shape);
  const int64_t channels = y.dims[1];
  const TensorId x_id = graph->tensor(dtype, x.dims, x.strides, p.x.data);
  const TensorId weight_id = graph->tensor(dtype, weight.dims, weight.strides, p.weight.data);
  std::vector<TensorId> added;
  const auto operand = [&](Role role, const std::vector<int64_t>& dims,
                           const std::vector<int64_t>& strides) {
    const TensorView* view = find_view(p.desc, p.operands, role);
    if (fused && view != nullptr) {
      added.push_back(graph->tensor(dtype, dims, strides, view->data));
    }
  };
  operand(Role::kBias, {1, channels, 1, 1}, {channels, 1, channels, channels});
  operand(Role::kResidual, y.dims, y.strides);
  const TensorId y_id = graph->tensor(dtype, y.dims, y.strides, p.y.data);
  TensorId from = added.empty() ? y_id : graph->inner(DType::kF32, y.dims, y.strides);
  graph->convolution(x_id, weight_id, from, p.conv);
  for (size_t i = 0; i < added.size(); ++i) {
    const bool last = i + 1 == added.size();
    const TensorId to = last ? y_id : graph->inner(DType::kF32, y.dims, y.strides);
    graph->pointwise(CudnnPointwise::kAdd, from, added[i], to);
    from = to;
  }
  graph->choose(p.key(fused), kCandidates, p.operands.workspace, library_workspace(p.y.type));
  return graph;
}

// The fused graph, or null where cuDNN does not take it.
std::unique_ptr<CudnnGraph> try_fused(const Problem& p) {
  if (p.desc.as<graph::Conv2d>().activation != graph::Activation::kNone) return nullptr;
  if (p.weight.type.shape[0] % kFusedOutputs != 0) return nullptr;
  if (p.desc.input(Role::kRowAdd) != nullptr) return nullptr;
  try {
    return make_graph(p, true);
  } catch (const Error& error) {
    if (error.code() != Errc::kUnsupported) throw;
    return nullptr;
  }
}

size_t workspace_plain(const graph::OpDesc& desc, const DeviceInfo& /*info*/, Config /*config*/) {
  return static_cast<size_t>(desc.output().shape.num_elements()) * sizeof(float);
}

PlainConvArgs plain_args(const graph::OpDesc& desc, const Operands& operands) {
  const TensorView& x = *find_view(desc, operands, Role::kX);
  const TensorView& weight = *find_view(desc, operands, Role::kWeight);
  const Shape& y = operands.outputs[0].type.shape;
  const auto& op = desc.as<graph::Conv2d>();
  PlainConvArgs args;
  args.x = typed(x);
  args.weight = typed(weight);
  args.n = x.type.shape[0];
  args.h = x.type.shape[1];
  args.w = x.type.shape[2];
  args.in = x.type.shape[3];
  args.out_h = y[1];
  args.out_w = y[2];
  args.out = y[3];
  args.kernel_h = weight.type.shape[1];
  args.kernel_w = weight.type.shape[2];
  args.stride = op.stride;
  args.pad = op.pad_begin;
  return args;
}

std::unique_ptr<Launch> prepare_plain(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                      Config /*config*/, const Operands& operands) {
  PlainConvArgs args = plain_args(desc, operands);
  args.y = static_cast<float*>(operands.workspace);
  const EpilogueArgs epilogue = epilogue_of(desc, operands, {args.y, DType::kF32});
  return make_launch([=](cudaStream_t stream) {
    if (epilogue.rows * epilogue.cols == 0) return;
    launch_plain_conv(args, stream);
    launch_epilogue(epilogue, stream);
  });
}

bool has_few_inputs(const TensorType& weight) { return weight.shape[3] <= kNarrowConvInputs; }

Support supports_plain(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (graph::is_interleaved(desc)) return Support::no("does not interleave");
  return supports_floats(desc, info);
}

Support supports_narrow(const graph::OpDesc& desc, const DeviceInfo& info) {
  const TensorType& weight = *desc.input(Role::kWeight);
  const int64_t out = weight.shape[0];
  const int64_t in = weight.shape[3];
  const bool few_inputs = has_few_inputs(weight) && out % 8 == 0;
  const bool few_outputs = out <= kNarrowConvOutputs && in % 8 == 0;
  if (!few_inputs && !few_outputs) return Support::no("wants few inputs or few outputs");
  const int64_t terms = weight.shape[1] * weight.shape[2] * in;
  if (terms * (few_inputs ? out : kNarrowConvOutputs) * 4 > kNarrowConvBytes) {
    return Support::no("the weights do not fit into shared memory");
  }
  if (desc.as<graph::Conv2d>().activation != graph::Activation::kNone ||
      desc.input(Role::kRowAdd) != nullptr || desc.input(Role::kResidual) != nullptr) {
    return Support::no("adds a bias only");
  }
  if (desc.output().shape.num_elements() == 0) return Support::no("nothing to compute");
  return supports_plain(desc, info);
}

NarrowConvArgs narrow_args(const graph::OpDesc& desc, const Operands& operands) {
  NarrowConvArgs args;
  args.conv = plain_args(desc, operands);
  args.bias = find_typed(desc, operands, Role::kBias);
  args.y = typed_out(operands.outputs[0]);
  return args;
}

std::unique_ptr<Launch> prepare_narrow(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                       Config /*config*/, const Operands& operands) {
  const NarrowConvArgs args = narrow_args(desc, operands);
  const bool few_inputs = has_few_inputs(*desc.input(Role::kWeight));
  return make_launch([args, few_inputs](cudaStream_t stream) {
    if (few_inputs) {
      launch_conv_few_inputs(args, stream);
    } else {
      launch_conv_few_outputs(args, stream);
    }
  });
}

// Tensor cores take 16-bit operands in whole tiles of channels.
Support supports_narrow_mma(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (Support narrow = supports_narrow(desc, info); !narrow.ok) return narrow;
  const TensorType& x = *desc.input(Role::kX);
  const TensorType& weight = *desc.input(Role::kWeight);
  if ((x.dtype != DType::kF16 && x.dtype != DType::kBF16) || weight.dtype != x.dtype) {
    return Support::no("wants x and weight in f16 or bf16");
  }
  const int64_t out = weight.shape[0];
  const int64_t terms = weight.shape[1] * weight.shape[2] * weight.shape[3];
  if (has_few_inputs(weight)) {
    constexpr int64_t kMaxPixels = int64_t{1} << 30;
    const bool fits = few_inputs_mma_bytes(terms, out) <= static_cast<size_t>(kNarrowConvBytes) &&
                      desc.output().shape.num_rows() < kMaxPixels &&
                      x.shape.num_rows() < kMaxPixels;
    if (out % 32 == 0 && terms <= kNarrowConvTerms && fits) return Support::yes();
    return Support::no("wants at most 80 terms and multiples of 32 outputs");
  }
  const bool is_3x3 = weight.shape[1] == 3 && weight.shape[2] == 3;
  if (is_3x3 && desc.as<graph::Conv2d>().stride == 1 && weight.shape[3] % 64 == 0) {
    return Support::yes();
  }
  return Support::no("wants 3x3, stride 1 and multiples of 64 inputs");
}

std::unique_ptr<Launch> prepare_narrow_mma(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                           Config /*config*/, const Operands& operands) {
  const NarrowConvArgs args = narrow_args(desc, operands);
  const bool few_inputs = has_few_inputs(*desc.input(Role::kWeight));
  return make_launch([args, few_inputs](cudaStream_t stream) {
    if (few_inputs) {
      launch_conv_few_inputs_mma(args, stream);
    } else {
      launch_conv_few_outputs_mma(args, stream);
    }
  });
}

std::unique_ptr<Launch> prepare_cudnn(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                      Config /*config*/, const Operands& operands) {
  const Problem problem(desc, operands);
  std::shared_ptr<const CudnnGraph> graph = try_fused(problem);
  if (graph != nullptr) {
    return make_launch([graph](cudaStream_t stream) { graph->enqueue(stream); });
  }
  graph = make_graph(problem, false);
  const EpilogueArgs epilogue = epilogue_of(desc, operands, typed(problem.y));
  return make_launch([graph, epilogue](cudaStream_t stream) {
    graph->enqueue(stream);
    launch_epilogue(epilogue, stream);
  });
}

}  // namespace

const Kernel conv2d_cudnn = plain_kernel("cuda.conv2d.cudnn", graph::OpKind::kConv2d,
                                         supports_cudnn, prepare_cudnn, workspace_cudnn);
const Kernel conv2d_narrow_mma =
    plain_kernel("cuda.conv2d.narrow_mma.plain", graph::OpKind::kConv2d, supports_narrow_mma,
                 prepare_narrow_mma);
const Kernel conv2d_narrow = plain_kernel("cuda.conv2d.narrow.plain", graph::OpKind::kConv2d,
                                          supports_narrow, prepare_narrow);
const Kernel conv2d_plain = plain_kernel("cuda.conv2d.plain", graph::OpKind::kConv2d,
                                         supports_plain, prepare_plain, workspace_plain);

}  // namespace halftone::backend::cuda
