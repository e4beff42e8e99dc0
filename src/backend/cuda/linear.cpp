// y = act(x W^T + bias + row add) + residual: cuBLASLt, then what its epilogue cannot do; and the
// plain kernel for what the library refuses. Statistics are further launches.
#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include <fmt/format.h>

#include "halftone/error.h"

#include "backend/cuda/call.h"
#include "backend/cuda/context.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/libraries/cublaslt.h"
#include "backend/cuda/libraries/matmul.h"

namespace halftone::backend::cuda {
namespace {

using graph::Role;

constexpr size_t kLibraryWorkspace = size_t{16} << 20;

bool is_normalized(const graph::OpDesc& desc) {
  return desc.input(Role::kRowStatistics) != nullptr;
}

// Two launches more than the product, in place of the norm's one: only where our own kernels, which
// need none, may be chosen instead.
Support supports_statistics(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (desc.as<graph::Linear>().amax) return Support::no("takes no amax");
  const int64_t groups = desc.as<graph::Linear>().statistics_groups;
  if (groups == 0) return supports_row_statistics(desc, info);
  if (!info.has("sm_90a")) return Support::no("statistics pay on compute capability 9.0");
  if (size_of(desc.output().dtype) != 2) return Support::no("statistics of 16 bits only");
  const int64_t channels = desc.output().shape.row_size();
  if (groups > kMostGroups || channels > kMostGroupedChannels) {
    return Support::no("statistics of at most 64 groups and 4096 channels");
  }
  return Support::yes();
}

// What follows the product and bias + beta * C cannot express.
bool needs_epilogue(const graph::OpDesc& desc) {
  const auto& op = desc.as<graph::Linear>();
  return is_normalized(desc) || op.geglu || op.activation != graph::Activation::kNone ||
         desc.input(Role::kRowAdd) != nullptr;
}

Support supports_cublaslt(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (!info.has("cublaslt")) return Support::no("needs cuBLASLt (libcublasLt)");
  const TensorType& x = *desc.input(Role::kX);
  const TensorType& weight = *desc.input(Role::kWeight);
  if (!is_plain_float(x.dtype)) return Support::no("wants f32, f16 or bf16");
  if (desc.output().dtype != x.dtype) return Support::no("the output has another element type");
  if (Support statistics = supports_statistics(desc, info); !statistics.ok) return statistics;
  for (const graph::TypedOperand& operand : desc.inputs) {
    // A normalizing epilogue is ours, which takes any floats.
    const bool ours = operand.role != Role::kX && operand.role != Role::kWeight;
    if (operand.type.dtype == x.dtype || (is_normalized(desc) && ours)) continue;
    return Support::no(fmt::format("operand '{}' is {}, x is {}", graph::to_string(operand.role),
                                   to_string(operand.type.dtype), to_string(x.dtype)));
  }
  if (desc.output().shape.num_elements() == 0) return Support::no("nothing to compute");
  if (weight.shape[0] % 8 != 0 || weight.shape[1] % 8 != 0) {
    return Support::no("wants multiples of 8 inputs and outputs");
  }
  return Support::yes();
}

// Products of rows that are not normalized yet may lie far from 0.
DType h_dtype(const graph::OpDesc& desc) {
  return is_normalized(desc) ? DType::kF32 : desc.input(Role::kX)->dtype;
}

size_t h_bytes(const graph::OpDesc& desc) {
  if (!needs_epilogue(desc)) return 0;
  const TensorType& x = *desc.input(Role::kX);
  const size_t bytes =
      static_cast<size_t>(x.shape.num_rows() * desc.input(Role::kWeight)->shape[0]) *
      size_of(h_dtype(desc));
  return (bytes + 255) / 256 * 256;
}

// Of the output, where they are wanted.
RowStatisticsArgs row_statistics_of(const graph::OpDesc& desc, const Operands& operands) {
  RowStatisticsArgs args;
  if (!desc.as<graph::Linear>().row_statistics) return args;
  const Shape& y = desc.output().shape;
  args.x = typed(operands.outputs[0]);
  args.y = operands.outputs[1].as<float>();
  args.rows = y.num_rows();
  args.cols = y.row_size();
  return args;
}

// What an op asks to know of its result, as launches behind it.
class Statistics {
 public:
  Statistics(const graph::OpDesc& desc, const Operands& operands)
      : rows_(row_statistics_of(desc, operands)), groups_(group_statistics_args(desc, operands)) {}
  void enqueue(cudaStream_t stream) const {
    if (rows_.y != nullptr) launch_row_statistics(rows_, stream);
    if (groups_.statistics != nullptr) launch_group_statistics(groups_, stream);
  }

 private:
  RowStatisticsArgs rows_;
  GroupNormArgs groups_;
};

size_t workspace_cublaslt(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                          Config /*config*/) {
  return kLibraryWorkspace + h_bytes(desc);
}

std::unique_ptr<Launch> prepare_cublaslt(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                         Config /*config*/, const Operands& operands) {
  const TensorView& x = *find_view(desc, operands, Role::kX);
  const TensorView& weight = *find_view(desc, operands, Role::kWeight);
  const bool after = needs_epilogue(desc);
  auto* h = static_cast<std::byte*>(operands.workspace) + kLibraryWorkspace;
  MatmulArgs args;
  args.dtype = x.type.dtype;
  args.rows = x.type.shape.num_rows();
  args.in = weight.type.shape[1];
  args.out = weight.type.shape[0];
  args.x = x.data;
  args.x_pitch = args.in;
  args.weight = weight.data;
  args.weight_pitch = args.in;
  args.y = after ? h : operands.outputs[0].data;
  args.y_dtype = after ? h_dtype(desc) : args.dtype;
  args.y_pitch = args.out;
  args.workspace = operands.workspace;
  args.workspace_bytes = kLibraryWorkspace;
  EpilogueArgs epilogue;
  if (after) {
    epilogue = epilogue_of(desc, operands, {h, args.y_dtype});
  } else {
    args.bias = find_typed(desc, operands, Role::kBias).data;
    args.residual = find_typed(desc, operands, Role::kResidual).data;
  }
  const Statistics statistics(desc, operands);
  return make_launch([matmul = Matmul(args), epilogue, after, statistics](cudaStream_t stream) {
    matmul.enqueue(stream);
    if (after) launch_epilogue(epilogue, stream);
    statistics.enqueue(stream);
  });
}

Support supports_plain(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (Support statistics = supports_statistics(desc, info); !statistics.ok) return statistics;
  return supports_floats(desc, info);
}

size_t workspace_plain(const graph::OpDesc& desc, const DeviceInfo& /*info*/, Config /*config*/) {
  return static_cast<size_t>(desc.input(Role::kX)->shape.num_rows() *
                             desc.input(Role::kWeight)->shape[0]) *
         sizeof(float);
}

std::unique_ptr<Launch> prepare_plain(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                      Config /*config*/, const Operands& operands) {
  const TensorView& x = *find_view(desc, operands, Role::kX);
  const TensorView& weight = *find_view(desc, operands, Role::kWeight);
  PlainLinearArgs args;
  args.x = typed(x);
  args.weight = typed(weight);
  args.y = static_cast<float*>(operands.workspace);
  args.rows = x.type.shape.num_rows();
  args.in = weight.type.shape[1];
  args.out = weight.type.shape[0];
  const EpilogueArgs epilogue = epilogue_of(desc, operands, {args.y, DType::kF32});
  const Statistics statistics(desc, operands);
  return make_launch([=](cudaStream_t stream) {
    if (args.rows * args.out == 0) return;
    launch_plain_linear(args, stream);
    launch_epilogue(epilogue, stream);
    statistics.enqueue(stream);
  });
}

std::unique_ptr<Launch> prepare_norm_weight(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                            Config /*config*/, const Operands& operands) {
  NormWeightArgs args;
  args.weight = find_typed(desc, operands, Role::kWeight);
  args.gamma = find_typed(desc, operands, Role::kGamma);
  args.beta = find_typed(desc, operands, Role::kBeta);
  args.bias = find_typed(desc, operands, Role::kBias);
  args.y = typed_out(operands.outputs[0]);
  args.column_sum = operands.outputs[1].as<float>();
  args.shift = typed_out(operands.outputs[2]);
  args.out = desc.output().shape[0];
  args.in = desc.output().shape[1];
  return make_launch([args](cudaStream_t stream) { launch_norm_weight(args, stream); });
}

}  // namespace

const Kernel linear_cublaslt =
    with_statistics(plain_kernel("cuda.linear.cublaslt", graph::OpKind::kLinear, supports_cublaslt,
                                 prepare_cublaslt, workspace_cublaslt));
const Kernel linear_plain = with_statistics(plain_kernel(
    "cuda.linear.plain", graph::OpKind::kLinear, supports_plain, prepare_plain, workspace_plain));
const Kernel norm_weight_plain = plain_kernel("cuda.norm_weight.plain", graph::OpKind::kNormWeight,
                                              supports_floats, prepare_norm_weight);

}  // namespace halftone::backend::cuda
