// Enlargement by 2 joined with a 3x3 convolution: sums of its weight, and its results interleaved
// (graph/ops/subpixel.h).
#include "backend/cuda/launch.h"
#include "backend/cuda/plain/device.cuh"
#include "backend/cuda/plain/overlap.cuh"

namespace halftone::backend::cuda {
namespace {

constexpr int kThreads = 256;

// As graph::subpixel_taps.
__device__ __forceinline__ int first_tap(int parity, int tap) { return tap == 0 ? 0 : 1 + parity; }
__device__ __forceinline__ int last_tap(int parity, int tap) { return tap == 0 ? parity : 2; }

__global__ void __launch_bounds__(kThreads)
    subpixel_weight_kernel(const __grid_constant__ SubpixelWeightArgs a) {
  follow_previous_kernel();
  const int64_t total = 16 * a.out * a.in;
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < total;
       i += gridDim.x * int64_t{kThreads}) {
    const int64_t row = i / a.in;  // [p, q, out, a, b]
    const int64_t o = row / 4 % a.out;
    const int parity = static_cast<int>(row / 4 / a.out);
    const int p = parity / 2;
    const int q = parity % 2;
    const int tap_r = static_cast<int>(row / 2 % 2);
    const int tap_s = static_cast<int>(row % 2);
    double sum = 0;
    for (int r = first_tap(p, tap_r); r <= last_tap(p, tap_r); ++r) {
      for (int s = first_tap(q, tap_s); s <= last_tap(q, tap_s); ++s) {
        sum += static_cast<double>(a.x[((o * 3 + r) * 3 + s) * a.in + i - row * a.in]);
      }
    }
    a.y[i] = static_cast<float>(sum);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    subpixel_merge_kernel(const __grid_constant__ SubpixelMergeArgs a) {
  follow_previous_kernel();
  const int64_t per_row = a.row_bytes / static_cast<int64_t>(sizeof(T));
  const int64_t total = a.n * 4 * a.h * a.w * per_row;
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < total;
       i += gridDim.x * int64_t{kThreads}) {
    const int64_t row = i / per_row;
    const int64_t w = row % (2 * a.w);
    const int64_t line = row / (2 * a.w);
    const int64_t h = line % (2 * a.h);
    const int64_t n = line / (2 * a.h);
    const int64_t p = h % 2;
    const int64_t q = w % 2;
    const int64_t from = (n * (a.h + 1) + h / 2 + p) * (a.w + 1) + w / 2 + q;
    static_cast<T*>(a.y)[i] =
        static_cast<const T*>(a.x)[(4 * from + 2 * p + q) * per_row + i - row * per_row];
  }
}

}  // namespace

void launch_subpixel_weight(const SubpixelWeightArgs& a, cudaStream_t stream) {
  const int64_t items = 16 * a.out * a.in;
  if (items == 0) return;
  launch("subpixel_weight", subpixel_weight_kernel, dim3(num_blocks(items, kThreads)), kThreads, 0,
         stream, a);
}

void launch_subpixel_merge(const SubpixelMergeArgs& a, cudaStream_t stream) {
  const int64_t bytes = a.n * 4 * a.h * a.w * a.row_bytes;
  if (bytes == 0) return;
  with_width(bits_of(a.x) | bits_of(a.y) | static_cast<uintptr_t>(a.row_bytes), [&]<class T>(T) {
    const int64_t items = bytes / static_cast<int64_t>(sizeof(T));
    launch("subpixel_merge", subpixel_merge_kernel<T>, dim3(num_blocks(items, kThreads)), kThreads,
           0, stream, a);
  });
}

}  // namespace halftone::backend::cuda
