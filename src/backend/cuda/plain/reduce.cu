// Statistics for calibration: maxima, minima, sums of squares, histograms. Pieces in a fixed order,
// so the same bits every run.
#include <algorithm>

#include "backend/cuda/launch.h"
#include "backend/cuda/plain/device.cuh"
#include "backend/cuda/plain/overlap.cuh"

namespace halftone::backend::cuda {
namespace {

constexpr int kThreads = 256;

__device__ __forceinline__ double value_of(ReduceKind kind, float x) {
  switch (kind) {
    case ReduceKind::kAbsMax:
      return static_cast<double>(fabsf(x));
    case ReduceKind::kSumSquares:
      return static_cast<double>(x) * static_cast<double>(x);
    default:
      return static_cast<double>(x);
  }
}

__device__ __forceinline__ double identity(ReduceKind kind) {
  switch (kind) {
    case ReduceKind::kSumSquares:
      return 0.0;
    case ReduceKind::kMin:
      return static_cast<double>(INFINITY);
    default:
      return -static_cast<double>(INFINITY);
  }
}

// A NaN stays.
__device__ __forceinline__ double combine(ReduceKind kind, double a, double b) {
  if (kind == ReduceKind::kSumSquares) return a + b;
  if (a != a || b != b) return a != a ? a : b;
  return kind == ReduceKind::kMin ? fmin(a, b) : fmax(a, b);
}

// Block (piece, group) of rows.
__global__ void __launch_bounds__(kThreads)
    reduce_rows_kernel(const __grid_constant__ ReduceArgs a, int pieces, int64_t first_group) {
  follow_previous_kernel();
  __shared__ double parts[kThreads];
  const int64_t group = first_group + blockIdx.y;
  const int64_t rows = a.rows / a.groups;
  const int64_t size = rows * a.cols;
  double sum = identity(a.kind);
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < size;
       i += pieces * int64_t{kThreads}) {
    const int64_t row = group * rows + i / a.cols;
    sum = combine(a.kind, sum,
                  value_of(a.kind, load1(a.x.data, a.x.dtype, row * a.pitch + i % a.cols)));
  }
  parts[threadIdx.x] = sum;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < half) {
      parts[threadIdx.x] = combine(a.kind, parts[threadIdx.x], parts[threadIdx.x + half]);
    }
  }
  if (threadIdx.x == 0) a.partial[group * pieces + blockIdx.x] = parts[0];
}

// A thread a column, over a piece of the rows.
__global__ void __launch_bounds__(kThreads)
    reduce_columns_kernel(const __grid_constant__ ReduceArgs a, int pieces) {
  follow_previous_kernel();
  const int64_t column = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (column >= a.cols) return;
  double sum = identity(a.kind);
  for (int64_t row = blockIdx.y; row < a.rows; row += pieces) {
    sum =
        combine(a.kind, sum, value_of(a.kind, load1(a.x.data, a.x.dtype, row * a.pitch + column)));
  }
  a.partial[column * pieces + blockIdx.y] = sum;
}

__global__ void __launch_bounds__(kThreads)
    reduce_pieces_kernel(const __grid_constant__ ReduceArgs a, int64_t groups, int pieces) {
  follow_previous_kernel();
  const int64_t group = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (group >= groups) return;
  double sum = identity(a.kind);
  for (int piece = 0; piece < pieces; ++piece) {
    sum = combine(a.kind, sum, a.partial[group * pieces + piece]);
  }
  a.y[group] = static_cast<float>(sum);
}

constexpr int64_t kLowestBin = (127 - 30) * 32 - 1;  // as in graph/ops/reduce.cpp

__global__ void __launch_bounds__(kThreads)
    histogram_kernel(const __grid_constant__ HistogramArgs a) {
  follow_previous_kernel();
  extern __shared__ int counts[];
  for (int bin = static_cast<int>(threadIdx.x); bin < a.bins; bin += kThreads) counts[bin] = 0;
  __syncthreads();
  const int64_t total = a.rows * a.cols;
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < total;
       i += gridDim.x * int64_t{kThreads}) {
    const float x = load1(a.x.data, a.x.dtype, i / a.cols * a.pitch + i % a.cols);
    const auto step = static_cast<int64_t>((__float_as_uint(x) & 0x7fffffffU) >> 18);
    const int64_t bin = min(max(step - kLowestBin, int64_t{0}), int64_t{a.bins - 1});
    atomicAdd(counts + bin, 1);
  }
  __syncthreads();
  for (int bin = static_cast<int>(threadIdx.x); bin < a.bins; bin += kThreads) {
    if (counts[bin] != 0) atomicAdd(a.y + bin, counts[bin]);
  }
}

}  // namespace

void launch_reduce(const ReduceArgs& a, cudaStream_t stream) {
  const int64_t groups = a.columns ? a.cols : a.groups;
  if (groups == 0) return;
  if (a.rows * a.cols == 0) {
    check(cudaMemsetAsync(a.y, 0, static_cast<size_t>(groups) * sizeof(float), stream),
          "clearing statistics");
    return;
  }
  const int pieces = reduce_pieces(groups);
  if (a.columns) {
    const auto blocks = static_cast<unsigned>((a.cols + kThreads - 1) / kThreads);
    launch("reduce", reduce_columns_kernel, dim3(blocks, static_cast<unsigned>(pieces)), kThreads,
           0, stream, a, pieces);
  } else {
    constexpr int64_t kMaxGrid = 65535;
    for (int64_t first = 0; first < groups; first += kMaxGrid) {
      const auto count = static_cast<unsigned>(std::min(kMaxGrid, groups - first));
      launch("reduce", reduce_rows_kernel, dim3(static_cast<unsigned>(pieces), count), kThreads, 0,
             stream, a, pieces, first);
    }
  }
  launch("reduce", reduce_pieces_kernel,
         dim3(static_cast<unsigned>((groups + kThreads - 1) / kThreads)), kThreads, 0, stream, a,
         groups, pieces);
}

void launch_histogram(const HistogramArgs& a, cudaStream_t stream) {
  const size_t bytes = static_cast<size_t>(a.bins) * sizeof(int32_t);
  check(cudaMemsetAsync(a.y, 0, bytes, stream), "clearing counts");
  if (a.rows * a.cols == 0) return;
  const unsigned blocks = std::min(num_blocks(a.rows * a.cols, kThreads), 264U);
  launch("histogram", histogram_kernel, blocks, kThreads, bytes, stream, a);
}

}  // namespace halftone::backend::cuda
