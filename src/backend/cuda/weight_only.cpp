// Linears with x in 16 bits and a quantized weight in one launch (plain/weight_only.cu), or by the
// library, whichever is faster here; or, on Hopper, of few rows by a kernel for those.
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

std::string key_of(const graph::OpDesc& desc, const Operands& operands) {
  return "weight_only/" + shape_key(desc, matrix_args(desc, operands));
}

// --- Few rows: what a weight from memory takes decides

Support supports_few(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (Support few = linear_few_tokens_codes.supports(desc, info); !few.ok) return few;
  return supports_mma(desc, info);
}

std::unique_ptr<Launch> prepare_few(const graph::OpDesc& desc, const DeviceInfo& info,
                                    Config config, const Operands& operands) {
  return faster_from_memory(
      "few_tokens_codes/" + shape_key(desc, matrix_args(desc, operands)), desc, operands,
      [&](const Operands& with) {
        return linear_few_tokens_codes.prepare(desc, info, config, with);
      },
      [&](const Operands& with) { return prepare_mma(desc, info, config, with); });
}

}  // namespace

const Kernel linear_weight_only_mma = plain_kernel(
    "cuda.linear.weight_only_mma.plain", graph::OpKind::kLinear, supports_mma, prepare_mma);
const Kernel linear_weight_only_few = plain_kernel(
    "cuda.linear.weight_only.few_tokens_or_mma", graph::OpKind::kLinear, supports_few, prepare_few);
const Kernel linear_weight_only_either =
    faster_kernel<linear_weight_only_mma, linear_weight_only, key_of>(
        "cuda.linear.weight_only.mma_or_cublaslt", graph::OpKind::kLinear);

}  // namespace halftone::backend::cuda
