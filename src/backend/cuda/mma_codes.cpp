// Linears and convolutions of 8-bit codes through mma.sync: for devices, types and shapes that the
// Hopper family does not serve.
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
  if (x == DType::kI8) return Support::yes();
  if (x != DType::kF8E4M3) return Support::no("wants i8 or f8e4m3");
  return capability(info) >= kFirstWithF8 ? Support::yes()
                                          : Support::no("f8e4m3 needs compute capability 8.9");
}

std::unique_ptr<Launch> prepare_mma(const graph::OpDesc& desc, const DeviceInfo& info,
                                    Config /*config*/, const Operands& operands) {
  const auto launch =
      std::holds_alternative<graph::Conv2d>(desc.attrs) ? launch_codes_conv : launch_codes_linear;
  return make_launch([launch, args = mma_args(desc, info, operands, launch)](cudaStream_t stream) {
    launch(args, stream);
  });
}

std::string key_of(const graph::OpDesc& desc, const Operands& operands) {
  return "codes/" + shape_key(desc, matrix_args(desc, operands));
}

}  // namespace

const Kernel linear_codes_either = faster_kernel<linear_codes_mma, linear_codes_cublaslt, key_of>(
    "cuda.linear.codes.mma_or_cublaslt", graph::OpKind::kLinear);
const Kernel linear_codes_mma =
    plain_kernel("cuda.linear.codes_mma.plain", graph::OpKind::kLinear, supports_mma, prepare_mma);
const Kernel conv2d_codes_mma =
    plain_kernel("cuda.conv2d.codes_mma.plain", graph::OpKind::kConv2d, supports_mma, prepare_mma);

}  // namespace halftone::backend::cuda
