// y = act(x W^T + bias + row add) + residual: cuBLASLt, then what its epilogue cannot do; and the
// plain kernel for what the library refuses.
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

// What follows the product and bias + beta * C cannot express.
bool needs_epilogue(const graph::OpDesc& desc) {
  const auto& op = desc.as<graph::Linear>();
  return op.geglu || op.activation != graph::Activation::kNone ||
         desc.input(Role::kRowAdd) != nullptr;
}

Support supports_cublaslt(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (!info.has("cublaslt")) return Support::no("needs cuBLASLt (libcublasLt)");
  const TensorType& x = *desc.input(Role::kX);
  const TensorType& weight = *desc.input(Role::kWeight);
  if (!is_plain_float(x.dtype)) return Support::no("wants f32, f16 or bf16");
  if (desc.output().dtype != x.dtype) return Support::no("the output has another element type");
  for (const graph::TypedOperand& operand : desc.inputs) {
    if (operand.type.dtype == x.dtype) continue;
    return Support::no(fmt::format("operand '{}' is {}, x is {}", graph::to_string(operand.role),
                                   to_string(operand.type.dtype), to_string(x.dtype)));
  }
  if (desc.output().shape.num_elements() == 0) return Support::no("nothing to compute");
  if (weight.shape[0] % 8 != 0 || weight.shape[1] % 8 != 0) {
    return Support::no("wants multiples of 8 inputs and outputs");
  }
  return Support::yes();
}

size_t h_bytes(const graph::OpDesc& desc) {
  if (!needs_epilogue(desc)) return 0;
  const TensorType& x = *desc.input(Role::kX);
  const size_t bytes =
      static_cast<size_t>(x.shape.num_rows() * desc.input(Role::kWeight)->shape[0]) *
      size_of(x.dtype);
  return (bytes + 255) / 256 * 256;
}

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
  args.y_dtype = args.dtype;
  args.y_pitch = args.out;
  args.workspace = operands.workspace;
  args.workspace_bytes = kLibraryWorkspace;
  EpilogueArgs epilogue;
  if (after) {
    epilogue = epilogue_of(desc, operands, {h, args.dtype});
  } else {
    args.bias = find_typed(desc, operands, Role::kBias).data;
    args.residual = find_typed(desc, operands, Role::kResidual).data;
  }
  return make_launch([matmul = Matmul(args), epilogue, after](cudaStream_t stream) {
    matmul.enqueue(stream);
    if (after) launch_epilogue(epilogue, stream);
  });
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
  return make_launch([=](cudaStream_t stream) {
    if (args.rows * args.out == 0) return;
    launch_plain_linear(args, stream);
    launch_epilogue(epilogue, stream);
  });
}

}  // namespace

const Kernel linear_cublaslt =
    plain_kernel("cuda.linear.cublaslt", graph::OpKind::kLinear, supports_cublaslt,
                 prepare_cublaslt, workspace_cublaslt);
const Kernel linear_plain = plain_kernel("cuda.linear.plain", graph::OpKind::kLinear,
                                         supports_floats, prepare_plain, workspace_plain);

}  // namespace halftone::backend::cuda
