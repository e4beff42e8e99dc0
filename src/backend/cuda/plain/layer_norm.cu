// Layer normalisation: one read of x, held in registers.
#include <algorithm>

#include "backend/cuda/launch.h"
#include "backend/cuda/plain/overlap.cuh"
#include "backend/cuda/plain/vectors.cuh"

namespace halftone::backend::cuda {
namespace {

constexpr int kWarps = 4;  // of a block
constexpr int kThreads = kWarps * 32;

// Which threads hold a row, in eights of its columns: kLanes of a warp side by side, kChunks times.
// A warp holds 32 / kLanes rows. kExact: no eight is behind the last column.
template <int kLanesT, int kChunksT, bool kExactT>
struct Layout {
  static constexpr int kLanes = kLanesT;
  static constexpr int kChunks = kChunksT;
  static constexpr bool kExact = kExactT;
  static constexpr int kChannels = kLanes * kChunks * 8;  // at most
  static constexpr int kBlockRows = kThreads / kLanes;
  static constexpr int kUnitBlocks = kChunks <= 5 ? 4 : 3;  // of a multiprocessor, by registers
  using Values = float[kChunks][8];

  static __device__ __forceinline__ int channels(const LayerNormArgs& a) {
    return kExact ? kChannels : static_cast<int>(a.channels);
  }
  static __device__ __forceinline__ int column(int chunk) {
    return (chunk * kLanes + static_cast<int>(threadIdx.x % kLanes)) * 8;
  }
  static __device__ __forceinline__ bool inside(const LayerNormArgs& a, int chunk) {
    return kExact || column(chunk) < channels(a);
  }
};

// A thread's part of a row as it lies in memory. What is behind the last column is read as the
// first eight, so that all reads are on their way together, and counts as zero.
template <class L, int kX>
struct RowPart {
  Elements<8, kX> x[L::kChunks];

  __device__ __forceinline__ void read(const LayerNormArgs& a, int64_t row) {
    const int64_t base = row * L::channels(a);
#pragma unroll
    for (int c = 0; c < L::kChunks; ++c) {
      x[c].read(a.x, base + (L::inside(a, c) ? L::column(c) : 0));
    }
  }
  __device__ __forceinline__ void unpack(const LayerNormArgs& a, typename L::Values& y) const {
#pragma unroll
    for (int c = 0; c < L::kChunks; ++c) {
      x[c].unpack(y[c]);
#pragma unroll
      for (int k = 0; k < 8; ++k) y[c][k] = L::inside(a, c) ? y[c][k] : 0.0F;
    }
  }
};

template <class L>
__device__ __forceinline__ float sum_chunks(const float (&v)[L::kChunks]) {
  float sum = 0;
#pragma unroll
  for (const float part : v) sum += part;
  return sum_row<L::kLanes>(sum, nullptr);
}

// y without its mean, over its deviation.
template <class L>
__device__ __forceinline__ void normalize(const LayerNormArgs& a, typename L::Values& y) {
  const float share = 1.0F / static_cast<float>(L::channels(a));
  float sums[L::kChunks] = {};
#pragma unroll
  for (int c = 0; c < L::kChunks; ++c) {
#pragma unroll
    for (int k = 0; k < 8; ++k) sums[c] += y[c][k];
  }
  const float mean = sum_chunks<L>(sums) * share;
  float squares[L::kChunks] = {};
#pragma unroll
  for (int c = 0; c < L::kChunks; ++c) {
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      y[c][k] -= mean;
      squares[c] = fmaf(y[c][k], y[c][k], squares[c]);
    }
    if (!L::inside(a, c)) squares[c] = 0;
  }
  const float inverse = rsqrtf(fmaf(sum_chunks<L>(squares), share, a.eps));
#pragma unroll
  for (int c = 0; c < L::kChunks; ++c) {
#pragma unroll
    for (int k = 0; k < 8; ++k) y[c][k] *= inverse;
  }
}

// Eight of gamma or beta, which exact layouts have in f32. They come through the first level cache,
// when they are wanted: a copy in shared memory, which all blocks fetch at the same moment from the
// same lines of the second level cache, takes three times as long (docs/performance.md).
template <class L>
__device__ __forceinline__ void read_parameters(const Typed& from, int column, float (&v)[8]) {
  load(from.data, L::kExact ? DType::kF32 : from.dtype, column, v);
}

// y times gamma plus beta; the largest magnitude of the row.
template <class L>
__device__ __forceinline__ float scale_and_shift(const LayerNormArgs& a, typename L::Values& y) {
  float largest[L::kChunks] = {};
#pragma unroll
  for (int c = 0; c < L::kChunks; ++c) {
    const int column = L::inside(a, c) ? L::column(c) : 0;
    float gamma[8], beta[8];
    read_parameters<L>(a.gamma, column, gamma);
    read_parameters<L>(a.beta, column, beta);
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      y[c][k] = fmaf(y[c][k], gamma[k], beta[k]);
      largest[c] = fmaxf(largest[c], fabsf(y[c][k]));
    }
    if (!L::inside(a, c)) largest[c] = 0;
  }
  float all = 0;
#pragma unroll
  for (const float of_chunk : largest) all = fmaxf(all, of_chunk);
  return all;
}

// The scale of a row's codes, 1 where it has none. `largest`: of this thread's part.
template <class L>
__device__ __forceinline__ float scale_of(const LayerNormArgs& a, int64_t row, float largest) {
  if (a.y_dynamic != nullptr) {
    const float scale = dynamic_scale(max_row<L::kLanes>(largest, nullptr), a.format.largest);
    if (threadIdx.x % L::kLanes == 0 && row >= 0) a.y_dynamic[row] = scale;
    return scale;
  }
  if (a.y_scale == nullptr) return 1.0F;
  return a.y_scale[a.rows_per_scale >= a.rows ? 0 : max(row, int64_t{0}) / a.rows_per_scale];
}

// Threads of a row take every so-many-th one, with the next on its way; from the last to the first,
// as what made x left the last ones in the cache.
template <int kX, int kY, class L>
__global__ void __launch_bounds__(kThreads, L::kUnitBlocks)
    layer_norm_kernel(const __grid_constant__ LayerNormArgs a) {
  if (blockIdx.x == 0) {
    prefetch(a.gamma, a.channels);
    prefetch(a.beta, a.channels);
  }
  follow_previous_kernel();
  bool coded = kY == kI8 || kY == kF8;
  if constexpr (kY == kAny) coded = a.y_scale != nullptr || a.y_dynamic != nullptr;
  const int64_t step = int64_t{gridDim.x} * L::kBlockRows;
  const int64_t behind = a.rows - int64_t{blockIdx.x} * L::kBlockRows;
  int64_t row = behind - 1 - threadIdx.x / L::kLanes;
  RowPart<L, kX> next;
  next.read(a, max(row, int64_t{0}));
  // Rows of a warp go on together, as they share its shuffles.
  for (int64_t end = behind; end > 0; end -= step) {
    float y[L::kChunks][8];
    next.unpack(a, y);
    if (end > step) next.read(a, max(row - step, int64_t{0}));
    normalize<L>(a, y);
    const float largest = scale_and_shift<L>(a, y);
    const float inverse = coded ? inverse_of(scale_of<L>(a, row, largest)) : 1.0F;
    if (row >= 0) {
      const int64_t base = row * L::channels(a);
#pragma unroll
      for (int c = 0; c < L::kChunks; ++c) {
        if (!L::inside(a, c)) continue;
        write<kY>(a.y, a.format, coded, base + L::column(c), y[c], inverse);
      }
    }
    row -= step;
  }
}

// Any number of channels: three reads.
__global__ void __launch_bounds__(kThreads)
    layer_norm_any_kernel(const __grid_constant__ LayerNormArgs a) {
  follow_previous_kernel();
  const int64_t row = blockIdx.x * int64_t{kThreads / 32} + threadIdx.x / 32;
  if (row >= a.rows) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t at = row * a.channels;
  float sum = 0;
  for (int64_t c = lane; c < a.channels; c += 32) sum += load1(a.x.data, a.x.dtype, at + c);
  const float mean = warp_sum(sum) / static_cast<float>(a.channels);
  float squares = 0;
  for (int64_t c = lane; c < a.channels; c += 32) {
    const float d = load1(a.x.data, a.x.dtype, at + c) - mean;
    squares = fmaf(d, d, squares);
  }
  const float inverse = rsqrtf(warp_sum(squares) / static_cast<float>(a.channels) + a.eps);
  for (int64_t c = lane; c < a.channels; c += 32) {
    const float v = (load1(a.x.data, a.x.dtype, at + c) - mean) * inverse;
    store1(a.y.data, a.y.dtype, at + c,
           fmaf(v, load1(a.gamma.data, a.gamma.dtype, c), load1(a.beta.data, a.beta.dtype, c)));
  }
}

using AnyLayout = Layout<32, static_cast<int>(kMaxCodedChannels) / 256, false>;

// Calls f with the layout of a row: exact for the widths of text encoders and denoisers.
template <class F>
void with_layout(const LayerNormArgs& a, F f) {
  const bool exact =
      size_of(a.x.dtype) == 2 && a.gamma.dtype == DType::kF32 && a.beta.dtype == DType::kF32;
  switch (exact ? a.channels : 0) {
    case 320:
      return f(Layout<8, 5, true>{});
    case 640:
      return f(Layout<16, 5, true>{});
    case 768:
      return f(Layout<32, 3, true>{});
    case 1280:
      return f(Layout<32, 5, true>{});
    case 1536:
      return f(Layout<32, 6, true>{});
    default:
      return f(AnyLayout{});
  }
}

}  // namespace

void launch_layer_norm(const LayerNormArgs& a, cudaStream_t stream) {
  if (a.rows * a.channels == 0) return;
  const bool coded = a.y_scale != nullptr || a.y_dynamic != nullptr;
  const bool eight = takes_eight(a.x.data, a.x.dtype, a.channels) &&
                     (coded || takes_eight(a.y.data, a.y.dtype, a.channels)) &&
                     takes_eight(a.gamma.data, a.gamma.dtype, a.channels) &&
                     takes_eight(a.beta.data, a.beta.dtype, a.channels);
  if (!eight || a.channels > kMaxCodedChannels) {
    constexpr int64_t kBlockRows = kThreads / 32;
    return launch("layer_norm", layer_norm_any_kernel,
                  dim3(static_cast<unsigned>((a.rows + kBlockRows - 1) / kBlockRows)), kThreads, 0,
                  stream, a);
  }
  with_layout(a, [&]<class L>(L) {
    const int64_t blocks = std::min((a.rows + L::kBlockRows - 1) / L::kBlockRows,
                                    int64_t{a.num_units} * L::kUnitBlocks);
    with_known_types(a.x.dtype, a.y.dtype, coded ? &a.format : nullptr,
                     [&]<int kX, int kY>(KnownTypes<kX, kY>) {
                       launch("layer_norm", layer_norm_kernel<kX, kY, L>,
                              dim3(static_cast<unsigned>(blocks)), kThreads, 0, stream, a);
                     });
  });
}

}  // namespace halftone::backend::cuda
