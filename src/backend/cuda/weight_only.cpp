// Linears with x in 16 bits and a quantized weight in one launch (plain/weight_only.cu), or by the
// library, whichever is faster here.
#include "backend/cuda/kernels.h"
#include "backend/cuda/measure.h"
#include "backend/cuda/mma_matrix.h"
#include "backend/cuda/quantized_matrix.h"

namespace halftone::backend::cuda {
namespace {

using graph::Role;

Support supports_mma(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (Support base = supports_mma_matrix(desc, info); !base.ok) return base;
  const DType x = desc.input(Role::kX)->dtype;
  return x == DType::kF16 || x == DType::kBF16 ? Support::yes() : Support::no("wants f16 or bf16");
}

std::unique_ptr<Launch> prepare_mma(const graph::OpDesc& desc, const DeviceInfo& info,
                                    Config /*config*/, const Operands& operands) {
  return make_launch([args = mma_args(desc, info, operands, launch_weight_only)](
                         cudaStream_t stream) { launch_weight_only(args, stream); });
}

Support supports_either(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (Support own = supports_mma(desc, info); !own.ok) return own;
  return linear_weight_only.supports(desc, info);
}

size_t workspace_either(const graph::OpDesc& desc, const DeviceInfo& info, Config config) {
  return linear_weight_only.workspace_bytes(desc, info, config);
}

std::unique_ptr<Launch> prepare_either(const graph::OpDesc& desc, const DeviceInfo& info,
                                       Config config, const Operands& operands) {
  return faster(
      "weight_only/" + shape_key(desc, matrix_args(desc, operands)),
      [&] { return prepare_mma(desc, info, config, operands); },
      [&] { return linear_weight_only.prepare(desc, info, config, operands); });
}

}  // namespace

const Kernel linear_weight_only_mma = plain_kernel(
    "cuda.linear.weight_only_mma.plain", graph::OpKind::kLinear, supports_mma, prepare_mma);
const Kernel linear_weight_only_either =
    plain_kernel("cuda.linear.weight_only.mma_or_cublaslt", graph::OpKind::kLinear, supports_either,
                 prepare_either, workspace_either);

}  // namespace halftone::backend::cuda
