// The plain halves of a layer norm between linears: statistics of rows, and the constants of the
// linear that reads them.
#include "backend/cuda/launch.h"
#include "backend/cuda/plain/device.cuh"
#include "backend/cuda/plain/overlap.cuh"
#include "backend/cuda/plain/row_norm.cuh"

namespace halftone::backend::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

// A warp a slot.
__global__ void __launch_bounds__(kThreads)
    row_statistics_kernel(const __grid_constant__ RowStatisticsArgs a) {
  follow_previous_kernel();
  constexpr int kPerLane = (kSlotColumns + 31) / 32;
  const int64_t slots = (a.cols + kSlotColumns - 1) / kSlotColumns;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int64_t i = blockIdx.x * int64_t{kWarps} + threadIdx.x / 32; i < a.rows * slots;
       i += gridDim.x * int64_t{kWarps}) {
    const int64_t row = i / slots;
    const int64_t first = (i - row * slots) * kSlotColumns;
    const auto columns = static_cast<int>(min(int64_t{kSlotColumns}, a.cols - first));
    float v[kPerLane] = {};
    float sum = 0;
#pragma unroll
    for (int k = 0; k < kPerLane; ++k) {
      const int c = lane + 32 * k;
      if (c < columns) v[k] = load1(a.x.data, a.x.dtype, row * a.cols + first + c);
      sum += v[k];
    }
    const float mean = warp_sum(sum) / static_cast<float>(columns);
    float squares = 0;
#pragma unroll
    for (int k = 0; k < kPerLane; ++k) {
      const float d = lane + 32 * k < columns ? v[k] - mean : 0.0F;
      squares = fmaf(d, d, squares);
    }
    squares = warp_sum(squares);
    if (lane == 0) reinterpret_cast<float2*>(a.y)[i] = make_float2(mean, squares);
  }
}

__device__ __forceinline__ double sum_of_lanes(double v) {
#pragma unroll
  for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(0xffffffffU, v, d);
  return v;
}

// Rounded once.
__device__ __forceinline__ float store_rounded(const TypedOut& to, int64_t i, double v) {
  switch (to.dtype) {
    case DType::kF16: {
      const __half h = __double2half(v);
      static_cast<__half*>(to.data)[i] = h;
      return __half2float(h);
    }
    case DType::kBF16: {
      const __nv_bfloat16 h = __double2bfloat16(v);
      static_cast<__nv_bfloat16*>(to.data)[i] = h;
      return __bfloat162float(h);
    }
    default:
      static_cast<float*>(to.data)[i] = static_cast<float>(v);
      return static_cast<float>(v);
  }
}

// A warp a row.
__global__ void __launch_bounds__(kThreads)
    norm_weight_kernel(const __grid_constant__ NormWeightArgs a) {
  follow_previous_kernel();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int64_t row = blockIdx.x * int64_t{kWarps} + threadIdx.x / 32; row < a.out;
       row += gridDim.x * int64_t{kWarps}) {
    double sum = 0;
    double shift = 0;
    for (int64_t c = lane; c < a.in; c += 32) {
      const auto w = static_cast<double>(load1(a.weight.data, a.weight.dtype, row * a.in + c));
      const auto gamma = static_cast<double>(load1(a.gamma.data, a.gamma.dtype, c));
      const auto beta = static_cast<double>(load1(a.beta.data, a.beta.dtype, c));
      sum += static_cast<double>(store_rounded(a.y, row * a.in + c, w * gamma));
      shift += w * beta;
    }
    sum = sum_of_lanes(sum);
    shift = sum_of_lanes(shift);
    if (lane != 0) continue;
    if (a.bias.data != nullptr) {
      shift += static_cast<double>(load1(a.bias.data, a.bias.dtype, row));
    }
    a.column_sum[row] = static_cast<float>(sum);
    store_rounded(a.shift, row, shift);
  }
}

}  // namespace

void launch_row_statistics(const RowStatisticsArgs& a, cudaStream_t stream) {
  const int64_t slots = (a.cols + kSlotColumns - 1) / kSlotColumns;
  if (a.rows * slots == 0) return;
  launch("row_statistics", row_statistics_kernel, dim3(num_blocks(a.rows * slots * 32, kThreads)),
         kThreads, 0, stream, a);
}

void launch_norm_weight(const NormWeightArgs& a, cudaStream_t stream) {
  if (a.out == 0) return;
  launch("norm_weight", norm_weight_kernel, dim3(num_blocks(a.out * 32, kThreads)), kThreads, 0,
         stream, a);
}

}  // namespace halftone::backend::cuda
