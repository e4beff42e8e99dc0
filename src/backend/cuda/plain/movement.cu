// Kernels that move elements: rows between placements, gathered rows, transposes, enlargement.
#include <algorithm>

#include "backend/cuda/launch.h"
#include "backend/cuda/plain/device.cuh"
#include "backend/cuda/plain/overlap.cuh"

namespace halftone::backend::cuda {
namespace {

constexpr int kThreads = 256;

__device__ __forceinline__ int64_t place(int64_t row, int64_t run, int64_t step, int64_t first) {
  return run == 1 ? row * step + first : row / run * step + first + row % run;
}

struct Copies {
  CopyRowsArgs part[kMaxCopies];
};

// Block (x, part). Four elements on their way at a time; behind the end the last one is copied
// again, as a branch would keep the reads apart.
template <class T>
__global__ void __launch_bounds__(kThreads)
    copy_rows_kernel(const __grid_constant__ Copies copies) {
  constexpr int kBatch = 4;
  follow_previous_kernel();
  const CopyRowsArgs& a = copies.part[blockIdx.y];
  const int64_t per_row = a.row_bytes / static_cast<int64_t>(sizeof(T));
  const int64_t total = a.rows * per_row;
  const bool is_small = total < (int64_t{1} << 31);  // dividing 64 bits takes longer than the loads
  const int64_t step = gridDim.x * int64_t{kThreads};
  for (int64_t first = blockIdx.x * int64_t{kThreads} + threadIdx.x; first < total;
       first += kBatch * step) {
    T value[kBatch];
    T* to[kBatch];
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      const int64_t i = min(first + k * step, total - 1);
      const int64_t row =
          is_small ? static_cast<uint32_t>(i) / static_cast<uint32_t>(per_row) : i / per_row;
      const int64_t col = i - row * per_row;
      const auto* x =
          static_cast<const std::byte*>(a.x) + place(row, a.x_run, a.x_step, a.x_first) * a.x_pitch;
      auto* y = static_cast<std::byte*>(a.y) + place(row, a.y_run, a.y_step, a.y_first) * a.y_pitch;
      value[k] = reinterpret_cast<const T*>(x)[col];
      to[k] = reinterpret_cast<T*>(y) + col;
    }
#pragma unroll
    for (int k = 0; k < kBatch; ++k) *to[k] = value[k];
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    gather_rows_kernel(const __grid_constant__ GatherRowsArgs a) {
  follow_previous_kernel();
  const int64_t per_row = a.row_bytes / static_cast<int64_t>(sizeof(T));
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < a.rows * per_row;
       i += gridDim.x * int64_t{kThreads}) {
    const int64_t row = i / per_row;
    const int64_t col = i - row * per_row;
    const int64_t index = a.index[row];
    T value;
    if (index < 0 || index >= a.limit) {
      memset(&value, 0xff, sizeof(value));
    } else {
      value = static_cast<const T*>(a.x)[(index + row * a.rows_per_index) * per_row + col];
    }
    static_cast<T*>(a.y)[i] = value;
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    transpose_kernel(const __grid_constant__ TransposeArgs a) {
  follow_previous_kernel();
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < a.count;
       i += gridDim.x * int64_t{kThreads}) {
    int64_t rest = i;
    int64_t from = 0;
    for (int axis = a.rank - 1; axis >= 0; --axis) {
      const int64_t next = rest / a.extent[axis];
      from += (rest - next * a.extent[axis]) * a.stride[axis];
      rest = next;
    }
    static_cast<T*>(a.y)[i] = static_cast<const T*>(a.x)[from];
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    upsample_kernel(const __grid_constant__ UpsampleArgs a) {
  follow_previous_kernel();
  const int64_t per_row = a.row_bytes / static_cast<int64_t>(sizeof(T));
  const int64_t total = a.n * a.out_h * a.out_w * per_row;
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < total;
       i += gridDim.x * int64_t{kThreads}) {
    const int64_t row = i / per_row;
    const int64_t w = row % a.out_w * a.w / a.out_w;
    const int64_t h = row / a.out_w % a.out_h * a.h / a.out_h;
    const int64_t n = row / (a.out_w * a.out_h);
    static_cast<T*>(a.y)[i] =
        static_cast<const T*>(a.x)[((n * a.h + h) * a.w + w) * per_row + i - row * per_row];
  }
}

}  // namespace

void launch_copy_rows(std::span<const CopyRowsArgs> copies, cudaStream_t stream) {
  Copies now;
  int count = 0;
  uintptr_t common = 0;
  int64_t bytes = 0;  // of the largest part
  const auto flush = [&] {
    if (count == 0) return;
    with_width(common, [&]<class T>(T) {
      const int64_t items = bytes / static_cast<int64_t>(sizeof(T));
      const dim3 blocks(num_blocks((items + 3) / 4, kThreads), static_cast<unsigned>(count));
      launch("copy_rows", copy_rows_kernel<T>, blocks, kThreads, 0, stream, now);
    });
    count = 0;
    common = 0;
    bytes = 0;
  };
  for (const CopyRowsArgs& a : copies) {
    if (a.rows * a.row_bytes == 0) continue;
    now.part[count++] = a;
    common |=
        bits_of(a.x) | bits_of(a.y) | static_cast<uintptr_t>(a.row_bytes | a.x_pitch | a.y_pitch);
    bytes = std::max(bytes, a.rows * a.row_bytes);
    if (count == kMaxCopies) flush();
  }
  flush();
}

void launch_gather_rows(const GatherRowsArgs& a, cudaStream_t stream) {
  if (a.rows * a.row_bytes == 0) return;
  with_width(bits_of(a.x) | bits_of(a.y) | static_cast<uintptr_t>(a.row_bytes), [&]<class T>(T) {
    const int64_t items = a.rows * a.row_bytes / static_cast<int64_t>(sizeof(T));
    launch("gather_rows", gather_rows_kernel<T>, dim3(num_blocks(items, kThreads)), kThreads, 0,
           stream, a);
  });
}

void launch_transpose(const TransposeArgs& a, cudaStream_t stream) {
  if (a.count == 0) return;
  with_width(static_cast<uintptr_t>(a.element_bytes), [&]<class T>(T) {
    launch("transpose", transpose_kernel<T>, dim3(num_blocks(a.count, kThreads)), kThreads, 0,
           stream, a);
  });
}

void launch_upsample(const UpsampleArgs& a, cudaStream_t stream) {
  const int64_t bytes = a.n * a.out_h * a.out_w * a.row_bytes;
  if (bytes == 0) return;
  with_width(bits_of(a.x) | bits_of(a.y) | static_cast<uintptr_t>(a.row_bytes), [&]<class T>(T) {
    const int64_t items = bytes / static_cast<int64_t>(sizeof(T));
    launch("upsample", upsample_kernel<T>, dim3(num_blocks(items, kThreads)), kThreads, 0, stream,
           a);
  });
}

}  // namespace halftone::backend::cuda
