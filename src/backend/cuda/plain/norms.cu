// Group and layer normalisation. Statistics are means and centred squares of pieces, merged in a
// fixed order (Chan's formula): the same bits every run, and no cancellation over a million pixels.
#include <algorithm>

#include "backend/cuda/error.h"
#include "backend/cuda/plain/codes.cuh"
#include "backend/cuda/plain/device.cuh"

namespace halftone::backend::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kMaxGroups = 64;

struct Moments {
  float count = 0, mean = 0, squares = 0;  // squares: sum of (x - mean)^2
};

__device__ __forceinline__ Moments merge(const Moments& a, const Moments& b) {
  const float count = a.count + b.count;
  if (count == 0) return a;
  const float delta = b.mean - a.mean;
  const float share = b.count / count;
  return {count, fmaf(delta, share, a.mean),
          a.squares + b.squares + delta * delta * a.count * share};
}

__device__ __forceinline__ Moments warp_merge(Moments m, int width) {
  for (int d = 1; d < width; d *= 2) {
    Moments other;
    other.count = __shfl_xor_sync(0xffffffffU, m.count, d);
    other.mean = __shfl_xor_sync(0xffffffffU, m.mean, d);
    other.squares = __shfl_xor_sync(0xffffffffU, m.squares, d);
    // Both partners must add in the same order.
    const bool first = (threadIdx.x & static_cast<unsigned>(d)) == 0;
    m = first ? merge(m, other) : merge(other, m);
  }
  return m;
}

__device__ __forceinline__ int64_t chunk_begin(const GroupNormArgs& a, int64_t chunk) {
  return a.rows * chunk / a.chunks;
}

// Element types and activations known to the compiler where kernels are to run at memory's speed;
// kAny: known at run time.
constexpr int kAny = -1;
constexpr int kF16 = static_cast<int>(DType::kF16);
constexpr int kBF16 = static_cast<int>(DType::kBF16);

template <int kType>
__device__ __forceinline__ DType known(DType dtype) {
  return kType == kAny ? dtype : static_cast<DType>(kType);
}

// A block's threads as row lanes: each holds one vector of columns and every row_lanes-th row, four
// rows in flight.
constexpr int kGroupThreads = 512;
constexpr int kRowsInFlight = 4;

__device__ __forceinline__ int row_lanes_of(int vectors) { return max(kGroupThreads / vectors, 1); }

// Block (chunk, n): each thread sums its columns over its rows, about the first value it saw; then
// a warp merges the pieces of a group.
template <int kWidth, int kType>
__global__ void __launch_bounds__(kGroupThreads)
    group_statistics_kernel(const __grid_constant__ GroupNormArgs a) {
  const DType x_type = known<kType>(a.x.dtype);
  extern __shared__ float shared[];  // means, then squares, each [row_lanes][channels]
  const int64_t n = blockIdx.y;
  const int64_t first = chunk_begin(a, blockIdx.x);
  const auto rows = static_cast<int>(chunk_begin(a, blockIdx.x + 1) - first);
  const auto channels = static_cast<int>(a.channels);
  const int vectors = channels / kWidth;
  const int row_lanes = row_lanes_of(vectors);
  const int64_t base = (n * a.rows + first) * channels;
  const int per_group = channels / static_cast<int>(a.groups);
  float* mean = shared;
  float* squares = shared + row_lanes * channels;
  for (int item = static_cast<int>(threadIdx.x); item < row_lanes * vectors;
       item += kGroupThreads) {
    const int lane = item / vectors;
    const int col = (item - lane * vectors) * kWidth;
    const int count = rows > lane ? (rows - lane - 1) / row_lanes + 1 : 0;
    float shift[kWidth] = {}, sum[kWidth] = {}, square[kWidth] = {};
    if (count > 0) {
      load(a.x.data, x_type, base + static_cast<int64_t>(lane) * channels + col, shift);
    }
    for (int done = 0; done < count; done += kRowsInFlight) {
      float v[kRowsInFlight][kWidth];
#pragma unroll
      for (int r = 0; r < kRowsInFlight; ++r) {
        const int64_t row = lane + static_cast<int64_t>(min(done + r, count - 1)) * row_lanes;
        load(a.x.data, x_type, base + row * channels + col, v[r]);
      }
#pragma unroll
      for (int r = 0; r < kRowsInFlight; ++r) {
        if (done + r >= count) break;
#pragma unroll
        for (int k = 0; k < kWidth; ++k) {
          const float d = v[r][k] - shift[k];
          sum[k] += d;
          square[k] = fmaf(d, d, square[k]);
        }
      }
    }
    const float inverse = count > 0 ? 1.0F / static_cast<float>(count) : 0.0F;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      mean[lane * channels + col + k] = fmaf(sum[k], inverse, shift[k]);
      squares[lane * channels + col + k] = fmaxf(square[k] - sum[k] * sum[k] * inverse, 0.0F);
    }
  }
  __syncthreads();
  // Lanes over (row lane, channel) pieces, then across lanes.
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int group = warp; group < static_cast<int>(a.groups); group += kGroupThreads / 32) {
    Moments m;
    for (int piece = lane; piece < row_lanes * per_group; piece += 32) {
      const int row_lane = piece / per_group;
      const int at = row_lane * channels + group * per_group + piece % per_group;
      const int count = rows > row_lane ? (rows - row_lane - 1) / row_lanes + 1 : 0;
      m = merge(m, {static_cast<float>(count), mean[at], squares[at]});
    }
    m = warp_merge(m, 32);
    if (lane == 0) {
      float* out = a.partial + ((n * a.groups + group) * a.chunks + blockIdx.x) * 2;
      out[0] = m.mean;
      out[1] = m.squares;
    }
  }
}

// Mean and inverse deviation of every group of image n, from the pieces.
__device__ void merge_groups(const GroupNormArgs& a, int64_t n, float* means, float* inverses) {
  const int per_group = static_cast<int>(a.channels) / static_cast<int>(a.groups);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int group = warp; group < static_cast<int>(a.groups); group += kGroupThreads / 32) {
    Moments m;
    for (int chunk = lane; chunk < a.chunks; chunk += 32) {
      const float2 part =
          reinterpret_cast<const float2*>(a.partial)[(n * a.groups + group) * a.chunks + chunk];
      const auto count =
          static_cast<float>((chunk_begin(a, chunk + 1) - chunk_begin(a, chunk)) * per_group);
      m = merge(m, {count, part.x, part.y});
    }
    m = warp_merge(m, 32);
    if (lane == 0) {
      means[group] = m.mean;
      inverses[group] = rsqrtf(m.squares / m.count + a.eps);
    }
  }
}

// kType: of x and y.
template <int kWidth, int kType, int kAct>
__global__ void __launch_bounds__(kGroupThreads)
    group_apply_kernel(const __grid_constant__ GroupNormArgs a) {
  const DType x_type = known<kType>(a.x.dtype);
  const DType y_type = known<kType>(a.y.dtype);
  const Act act = kAct == kAny ? a.act : static_cast<Act>(kAct);
  __shared__ float means[kMaxGroups], inverses[kMaxGroups];
  const int64_t n = blockIdx.y;
  merge_groups(a, n, means, inverses);
  __syncthreads();
  const auto channels = static_cast<int>(a.channels);
  const int per_group = channels / static_cast<int>(a.groups);
  const int vectors = channels / kWidth;
  const int row_lanes = row_lanes_of(vectors);
  const auto rows = static_cast<int>(a.rows);
  const int step = static_cast<int>(gridDim.x) * row_lanes;
  const int64_t base = n * a.rows * channels;
  const float y_inverse = a.y_scale != nullptr ? inverse_of(*a.y_scale) : 1.0F;
  for (int item = static_cast<int>(threadIdx.x); item < row_lanes * vectors;
       item += kGroupThreads) {
    const int lane = item / vectors;
    const int col = (item - lane * vectors) * kWidth;
    float scale[kWidth], shift[kWidth];
    load(a.gamma.data, a.gamma.dtype, col, scale);
    load(a.beta.data, a.beta.dtype, col, shift);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      const int group = (col + k) / per_group;
      scale[k] *= inverses[group];
      shift[k] = fmaf(-means[group], scale[k], shift[k]);
    }
    for (int row = static_cast<int>(blockIdx.x) * row_lanes + lane; row < rows;
         row += kRowsInFlight * step) {
      float v[kRowsInFlight][kWidth];
#pragma unroll
      for (int r = 0; r < kRowsInFlight; ++r) {
        const int64_t at = min(row + r * step, rows - 1);
        load(a.x.data, x_type, base + at * channels + col, v[r]);
      }
#pragma unroll
      for (int r = 0; r < kRowsInFlight; ++r) {
        if (row + r * step >= rows) break;
        const int64_t at = base + static_cast<int64_t>(row + r * step) * channels + col;
#pragma unroll
        for (int k = 0; k < kWidth; ++k) {
          v[r][k] = activate(act, fmaf(v[r][k], scale[k], shift[k]));
        }
        if (kType == kAny && a.y_scale != nullptr) {
          store_codes(a.y.data, at, a.format, v[r], y_inverse);
        } else {
          store(a.y.data, y_type, at, v[r]);
        }
      }
    }
  }
}

// A warp a row, held in registers: up to kVectors * 256 channels.
template <int kVectors, int kType>
__global__ void __launch_bounds__(kThreads)
    layer_norm_kernel(const __grid_constant__ LayerNormArgs a) {
  const DType x_type = known<kType>(a.x.dtype);
  const DType y_type = known<kType>(a.y.dtype);
  const int64_t row = blockIdx.x * int64_t{kThreads / 32} + threadIdx.x / 32;
  if (row >= a.rows) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const auto channels = static_cast<int>(a.channels);
  float v[kVectors][8];
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int c = (i * 32 + lane) * 8;
    if (c >= channels) continue;
    load(a.x.data, x_type, row * channels + c, v[i]);
#pragma unroll
    for (int k = 0; k < 8; ++k) sum += v[i][k];
  }
  const float mean = warp_sum(sum) / static_cast<float>(channels);
  float squares = 0;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    if ((i * 32 + lane) * 8 >= channels) continue;
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      const float d = v[i][k] - mean;
      squares = fmaf(d, d, squares);
    }
  }
  const float inverse = rsqrtf(warp_sum(squares) / static_cast<float>(channels) + a.eps);
  const bool coded = kType == kAny && (a.y_scale != nullptr || a.y_dynamic != nullptr);
  float amax = 0;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int c = (i * 32 + lane) * 8;
    if (c >= channels) continue;
    float gamma[8], beta[8];
    load(a.gamma.data, a.gamma.dtype, c, gamma);
    load(a.beta.data, a.beta.dtype, c, beta);
    for (int k = 0; k < 8; ++k) {
      v[i][k] = fmaf((v[i][k] - mean) * inverse, gamma[k], beta[k]);
      amax = fmaxf(amax, fabsf(v[i][k]));
    }
    if (!coded) store(a.y.data, y_type, row * channels + c, v[i]);
  }
  if (!coded) return;
  float scale = 1.0F;
  if (a.y_dynamic != nullptr) {
    scale = dynamic_scale(warp_max(amax), a.format.largest);
    if (lane == 0) a.y_dynamic[row] = scale;
  } else {
    scale = a.y_scale[row / a.rows_per_scale];
  }
  const float y_inverse = inverse_of(scale);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int c = (i * 32 + lane) * 8;
    if (c < channels) store_codes(a.y.data, row * channels + c, a.format, v[i], y_inverse);
  }
}

// Any number of channels: three reads.
__global__ void __launch_bounds__(kThreads)
    layer_norm_any_kernel(const __grid_constant__ LayerNormArgs a) {
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

template <int kWidth, int kType, int kAct>
void run_group_norm(const GroupNormArgs& a, cudaStream_t stream) {
  const int64_t row_lanes = std::max<int64_t>(kGroupThreads / (a.channels / kWidth), 1);
  const size_t statistics_bytes = static_cast<size_t>(2 * row_lanes * a.channels) * sizeof(float);
  const auto n = static_cast<unsigned>(a.n);
  group_statistics_kernel<kWidth, kType>
      <<<dim3(static_cast<unsigned>(a.chunks), n), kGroupThreads, statistics_bytes, stream>>>(a);
  // Every block merges the pieces first: three an SM, no more.
  constexpr int64_t kBlocks = 3 * 132;
  const int64_t blocks = std::clamp<int64_t>(a.rows / (row_lanes * kRowsInFlight), 1,
                                             std::max<int64_t>(kBlocks / a.n, 1));
  group_apply_kernel<kWidth, kType, kAct>
      <<<dim3(static_cast<unsigned>(blocks), n), kGroupThreads, 0, stream>>>(a);
  check_launch("group_norm");
}

template <int kType>
void run_group_norm_of_type(const GroupNormArgs& a, cudaStream_t stream) {
  switch (a.act) {
    case Act::kNone:
      run_group_norm<8, kType, static_cast<int>(Act::kNone)>(a, stream);
      return;
    case Act::kSilu:
      run_group_norm<8, kType, static_cast<int>(Act::kSilu)>(a, stream);
      return;
    default:
      run_group_norm<8, kType, kAny>(a, stream);
  }
}

// The type of x and y where kernels know it.
int known_type(DType x, DType y, bool coded) {
  const bool half = x == DType::kF16 || x == DType::kBF16;
  return half && x == y && !coded ? static_cast<int>(x) : kAny;
}

template <int kType>
void run_layer_norm(const LayerNormArgs& a, unsigned blocks, cudaStream_t stream) {
  if (a.channels <= 768) {
    layer_norm_kernel<3, kType><<<blocks, kThreads, 0, stream>>>(a);
  } else if (a.channels <= 1280) {
    layer_norm_kernel<5, kType><<<blocks, kThreads, 0, stream>>>(a);
  } else {
    layer_norm_kernel<8, kType><<<blocks, kThreads, 0, stream>>>(a);
  }
}

}  // namespace

void launch_group_norm(const GroupNormArgs& a, cudaStream_t stream) {
  if (a.n * a.rows * a.channels == 0) return;
  const bool eight_out =
      a.y_scale != nullptr ? is_aligned(a.y.data, 8) : takes_eight(a.y.data, a.y.dtype, a.channels);
  const bool eight = takes_eight(a.x.data, a.x.dtype, a.channels) && eight_out &&
                     takes_eight(a.gamma.data, a.gamma.dtype, a.channels) &&
                     takes_eight(a.beta.data, a.beta.dtype, a.channels);
  const int type = known_type(a.x.dtype, a.y.dtype, a.y_scale != nullptr);
  if (!eight) {
    run_group_norm<1, kAny, kAny>(a, stream);
  } else if (type == kF16) {
    run_group_norm_of_type<kF16>(a, stream);
  } else if (type == kBF16) {
    run_group_norm_of_type<kBF16>(a, stream);
  } else {
    run_group_norm<8, kAny, kAny>(a, stream);
  }
}

void launch_layer_norm(const LayerNormArgs& a, cudaStream_t stream) {
  if (a.rows * a.channels == 0) return;
  const auto blocks = static_cast<unsigned>((a.rows + kThreads / 32 - 1) / (kThreads / 32));
  const bool coded = a.y_scale != nullptr || a.y_dynamic != nullptr;
  const bool eight = takes_eight(a.x.data, a.x.dtype, a.channels) &&
                     (coded || takes_eight(a.y.data, a.y.dtype, a.channels)) &&
                     takes_eight(a.gamma.data, a.gamma.dtype, a.channels) &&
                     takes_eight(a.beta.data, a.beta.dtype, a.channels);
  const int type = known_type(a.x.dtype, a.y.dtype, coded);
  if (!eight || a.channels > kMaxCodedChannels) {
    layer_norm_any_kernel<<<blocks, kThreads, 0, stream>>>(a);
  } else if (type == kF16) {
    run_layer_norm<kF16>(a, blocks, stream);
  } else if (type == kBF16) {
    run_layer_norm<kBF16>(a, blocks, stream);
  } else {
    run_layer_norm<kAny>(a, blocks, stream);
  }
  check_launch("layer_norm");
}

}  // namespace halftone::backend::cuda
