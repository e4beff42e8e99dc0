// Linear and convolution with quantized operands, one output a thread: what the matrix kernels
// refuse. Integer products are summed exactly, others in float.
#include "backend/cuda/launch.h"
#include "backend/cuda/plain/codes.cuh"
#include "backend/cuda/plain/device.cuh"
#include "backend/cuda/plain/overlap.cuh"

namespace halftone::backend::cuda {
namespace {

constexpr int kThreads = 256;

__device__ __forceinline__ float value_at(const void* p, DType t, int64_t i) {
  return t == DType::kI8 || t == DType::kF8E4M3 ? code_value(p, {t, 8}, i) : load1(p, t, i);
}

__device__ __forceinline__ int weight_code(const QuantizedMatrixArgs& a, int64_t i) {
  return a.weight_format.dtype == DType::kI8
             ? static_cast<const int8_t*>(a.weight)[i]
             : static_cast<int>(code_value(a.weight, a.weight_format, i));
}

__global__ void __launch_bounds__(kThreads)
    quantized_matrix_kernel(const __grid_constant__ QuantizedMatrixArgs a) {
  follow_previous_kernel();
  const int64_t pixels = a.out_h * a.out_w;
  const int64_t total = a.n * pixels * a.out;
  const bool integers = a.x.dtype == DType::kI8;
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < total;
       i += gridDim.x * int64_t{kThreads}) {
    const int64_t o = i % a.out;
    const int64_t row = i / a.out;
    const int64_t image = row / pixels;
    const int64_t top = row % pixels / a.out_w * a.stride - a.pad;
    const int64_t left = row % a.out_w * a.stride - a.pad;
    int exact = 0;
    float sum = 0;
    for (int64_t tap = 0; tap < a.kernel_h * a.kernel_w; ++tap) {
      const int64_t h = top + tap / a.kernel_w;
      const int64_t w = left + tap % a.kernel_w;
      if (h < 0 || h >= a.h || w < 0 || w >= a.w) continue;
      const int64_t from = ((image * a.h + h) * a.w + w) * a.in;
      const int64_t weights = (o * a.kernel_h * a.kernel_w + tap) * a.in;
      for (int64_t c = 0; c < a.in; ++c) {
        if (integers) {
          exact += static_cast<const int8_t*>(a.x.data)[from + c] * weight_code(a, weights + c);
        } else {
          sum = fmaf(value_at(a.x.data, a.x.dtype, from + c),
                     code_value(a.weight, a.weight_format, weights + c), sum);
        }
      }
    }
    float scale = a.weight_scale[o];
    if (a.x_scale != nullptr) scale = __fmul_rn(a.x_scale[row / a.rows_per_scale], scale);
    a.y[i] = __fmul_rn(integers ? static_cast<float>(exact) : sum, scale);
  }
}

__global__ void __launch_bounds__(kThreads)
    scale_sums_kernel(const __grid_constant__ ScaleSumsArgs a) {
  follow_previous_kernel();
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < a.rows * a.cols;
       i += gridDim.x * int64_t{kThreads}) {
    const int64_t row = i / a.cols;
    const float scale =
        __fmul_rn(a.row_scale[row / a.rows_per_scale], a.column_scale[i - row * a.cols]);
    const float sum = a.integers ? static_cast<float>(__float_as_int(a.sums[i])) : a.sums[i];
    a.sums[i] = __fmul_rn(sum, scale);
  }
}

}  // namespace

void launch_scale_sums(const ScaleSumsArgs& a, cudaStream_t stream) {
  if (a.rows * a.cols == 0) return;
  launch("scale_sums", scale_sums_kernel, dim3(num_blocks(a.rows * a.cols, kThreads)), kThreads, 0,
         stream, a);
}

void launch_quantized_matrix(const QuantizedMatrixArgs& a, cudaStream_t stream) {
  const int64_t total = a.n * a.out_h * a.out_w * a.out;
  if (total == 0) return;
  launch("quantized_matrix", quantized_matrix_kernel, dim3(num_blocks(total, kThreads)), kThreads,
         0, stream, a);
}

}  // namespace halftone::backend::cuda
