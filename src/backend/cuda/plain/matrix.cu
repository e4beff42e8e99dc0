// Products and convolutions for shapes and types that no library takes: one thread an output, f32
// sums. Correct everywhere, fast nowhere.
#include "backend/cuda/launch.h"
#include "backend/cuda/plain/device.cuh"
#include "backend/cuda/plain/overlap.cuh"

namespace halftone::backend::cuda {
namespace {

constexpr int kThreads = 128;

// A warp an output: lanes share the terms.
__global__ void __launch_bounds__(kThreads)
    linear_kernel(const __grid_constant__ PlainLinearArgs a) {
  follow_previous_kernel();
  constexpr int kWarps = kThreads / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int64_t i = blockIdx.x * int64_t{kWarps} + threadIdx.x / 32; i < a.rows * a.out;
       i += gridDim.x * int64_t{kWarps}) {
    const int64_t row = i / a.out;
    const int64_t out = i - row * a.out;
    float sum = 0;
    for (int64_t k = lane; k < a.in; k += 32) {
      sum = fmaf(load1(a.x.data, a.x.dtype, row * a.in + k),
                 load1(a.weight.data, a.weight.dtype, out * a.in + k), sum);
    }
    sum = warp_sum(sum);
    if (lane == 0) a.y[i] = sum;
  }
}

__global__ void __launch_bounds__(kThreads) conv_kernel(const __grid_constant__ PlainConvArgs a) {
  follow_previous_kernel();
  constexpr int kWarps = kThreads / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t pixels = a.n * a.out_h * a.out_w;
  for (int64_t i = blockIdx.x * int64_t{kWarps} + threadIdx.x / 32; i < pixels * a.out;
       i += gridDim.x * int64_t{kWarps}) {
    const int64_t pixel = i / a.out;
    const int64_t out = i - pixel * a.out;
    const int64_t n = pixel / (a.out_h * a.out_w);
    const int64_t h = pixel / a.out_w % a.out_h * a.stride - a.pad;
    const int64_t w = pixel % a.out_w * a.stride - a.pad;
    float sum = 0;
    for (int64_t r = 0; r < a.kernel_h; ++r) {
      if (h + r < 0 || h + r >= a.h) continue;
      for (int64_t s = 0; s < a.kernel_w; ++s) {
        if (w + s < 0 || w + s >= a.w) continue;
        const int64_t x = ((n * a.h + h + r) * a.w + w + s) * a.in;
        const int64_t weight = ((out * a.kernel_h + r) * a.kernel_w + s) * a.in;
        for (int64_t k = lane; k < a.in; k += 32) {
          sum = fmaf(load1(a.x.data, a.x.dtype, x + k),
                     load1(a.weight.data, a.weight.dtype, weight + k), sum);
        }
      }
    }
    sum = warp_sum(sum);
    if (lane == 0) a.y[i] = sum;
  }
}

}  // namespace

void launch_plain_linear(const PlainLinearArgs& a, cudaStream_t stream) {
  launch("linear", linear_kernel, dim3(num_blocks(a.rows * a.out * 32, kThreads)), kThreads, 0,
         stream, a);
}

void launch_plain_conv(const PlainConvArgs& a, cudaStream_t stream) {
  launch("conv2d", conv_kernel, dim3(num_blocks(a.n * a.out_h * a.out_w * a.out * 32, kThreads)),
         kThreads, 0, stream, a);
}

}  // namespace halftone::backend::cuda
