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

// Block (chunk, n): each thread sums its columns over every row_lanes-th row of the chunk, about
// the first value it saw; then a warp merges the pieces of a group.
template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    group_statistics_kernel(const __grid_constant__ GroupNormArgs a) {
  extern __shared__ float shared[];  // means, then squares, each [row_lanes][channels]
  const int64_t n = blockIdx.y;
  const int64_t first = chunk_begin(a, blockIdx.x);
  const int64_t last = chunk_begin(a, blockIdx.x + 1);
  const auto channels = static_cast<int>(a.channels);
  const int vectors = channels / kWidth;
  const int row_lanes = max(kThreads / vectors, 1);
  const int64_t base = n * a.rows * a.channels;
  const int per_group = channels / static_cast<int>(a.groups);
  float* mean = shared;
  float* squares = shared + row_lanes * channels;
  for (int item = static_cast<int>(threadIdx.x); item < row_lanes * vectors; item += kThreads) {
    const int lane = item / vectors;
    const int col = (item - lane * vectors) * kWidth;
    float shift[kWidth], sum[kWidth], square[kWidth];
    int count = 0;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) shift[k] = sum[k] = square[k] = 0;
    for (int64_t row = first + lane; row < last; row += row_lanes) {
      float v[kWidth];
      load(a.x.data, a.x.dtype, base + row * channels + col, v);
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        if (count == 0) shift[k] = v[k];
        const float d = v[k] - shift[k];
        sum[k] += d;
        square[k] = fmaf(d, d, square[k]);
      }
      ++count;
    }
    const float inverse = count > 0 ? 1.0F / static_cast<float>(count) : 0.0F;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      mean[lane * channels + col + k] = fmaf(sum[k], inverse, shift[k]);
      squares[lane * channels + col + k] = fmaxf(square[k] - sum[k] * sum[k] * inverse, 0.0F);
    }
  }
  __syncthreads();
  // A warp merges a group: lanes over (row lane, channel) pieces, then across lanes.
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int group = warp; group < static_cast<int>(a.groups); group += kThreads / 32) {
    Moments m;
    for (int piece = lane; piece < row_lanes * per_group; piece += 32) {
      const int row_lane = piece / per_group;
      const int at = row_lane * channels + group * per_group + piece % per_group;
      const int64_t rows =
          last - first > row_lane ? (last - first - row_lane - 1) / row_lanes + 1 : 0;
      m = merge(m, {static_cast<float>(rows), mean[at], squares[at]});
    }
    m = warp_merge(m, 32);
    if (lane == 0) {
      float* out = a.partial + ((n * a.groups + group) * a.chunks + blockIdx.x) * 2;
      out[0] = m.mean;
      out[1] = m.squares;
    }
  }
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    group_apply_kernel(const __grid_constant__ GroupNormArgs a) {
  extern __shared__ float shared[];  // scale [channels], shift [channels]
  __shared__ float group_mean[kMaxGroups], group_inverse[kMaxGroups];
  const int64_t n = blockIdx.y;
  const auto channels = static_cast<int>(a.channels);
  const int per_group = channels / static_cast<int>(a.groups);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int group = warp; group < static_cast<int>(a.groups); group += kThreads / 32) {
    Moments m;
    for (int chunk = lane; chunk < a.chunks; chunk += 32) {
      const auto* part =
          reinterpret_cast<const float2*>(a.partial) + (n * a.groups + group) * a.chunks + chunk;
      const auto count =
          static_cast<float>((chunk_begin(a, chunk + 1) - chunk_begin(a, chunk)) * per_group);
      m = merge(m, {count, part->x, part->y});
    }
    m = warp_merge(m, 32);
    if (lane == 0) {
      group_mean[group] = m.mean;
      group_inverse[group] = rsqrtf(m.squares / m.count + a.eps);
    }
  }
  __syncthreads();
  float* scale = shared;
  float* shift = shared + channels;
  for (int c = static_cast<int>(threadIdx.x); c < channels; c += kThreads) {
    const int group = c / per_group;
    const float s = group_inverse[group] * load1(a.gamma.data, a.gamma.dtype, c);
    scale[c] = s;
    shift[c] = fmaf(-group_mean[group], s, load1(a.beta.data, a.beta.dtype, c));
  }
  __syncthreads();
  const int64_t base = n * a.rows * a.channels;
  const int64_t total = a.rows * channels;
  const float y_inverse = a.y_scale != nullptr ? inverse_of(*a.y_scale) : 1.0F;
  for (int64_t i = (blockIdx.x * int64_t{kThreads} + threadIdx.x) * kWidth; i < total;
       i += gridDim.x * int64_t{kThreads} * kWidth) {
    const auto c = static_cast<int>(i % channels);
    float v[kWidth];
    load(a.x.data, a.x.dtype, base + i, v);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) v[k] = activate(a.act, fmaf(v[k], scale[c + k], shift[c + k]));
    if (a.y_scale != nullptr) {
      store_codes(a.y.data, base + i, a.format, v, y_inverse);
    } else {
      store(a.y.data, a.y.dtype, base + i, v);
    }
  }
}

// A warp a row, held in registers: up to kVectors * 256 channels.
template <int kVectors>
__global__ void __launch_bounds__(kThreads)
    layer_norm_kernel(const __grid_constant__ LayerNormArgs a) {
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
    load(a.x.data, a.x.dtype, row * channels + c, v[i]);
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
  const bool coded = a.y_scale != nullptr || a.y_dynamic != nullptr;
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
    if (!coded) store(a.y.data, a.y.dtype, row * channels + c, v[i]);
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

template <int kWidth>
void run_group_norm(const GroupNormArgs& a, cudaStream_t stream) {
  const auto vectors = static_cast<unsigned>(a.channels / kWidth);
  const unsigned row_lanes = std::max(kThreads / vectors, 1U);
  const auto channels = static_cast<unsigned>(a.channels);
  const size_t statistics_bytes = size_t{2} * row_lanes * channels * sizeof(float);
  const size_t apply_bytes = size_t{2} * channels * sizeof(float);
  const auto n = static_cast<unsigned>(a.n);
  group_statistics_kernel<kWidth>
      <<<dim3(static_cast<unsigned>(a.chunks), n), kThreads, statistics_bytes, stream>>>(a);
  const unsigned blocks =
      std::min(num_blocks(a.rows * a.channels / kWidth, kThreads), std::max(132U * 8 / n, 1U));
  group_apply_kernel<kWidth><<<dim3(blocks, n), kThreads, apply_bytes, stream>>>(a);
  check_launch("group_norm");
}

}  // namespace

void launch_group_norm(const GroupNormArgs& a, cudaStream_t stream) {
  if (a.n * a.rows * a.channels == 0) return;
  const bool eight_out =
      a.y_scale != nullptr ? is_aligned(a.y.data, 8) : takes_eight(a.y.data, a.y.dtype, a.channels);
  if (takes_eight(a.x.data, a.x.dtype, a.channels) && eight_out) {
    run_group_norm<8>(a, stream);
  } else {
    run_group_norm<1>(a, stream);
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
  if (eight && a.channels <= 768) {
    layer_norm_kernel<3><<<blocks, kThreads, 0, stream>>>(a);
  } else if (eight && a.channels <= 1280) {
    layer_norm_kernel<5><<<blocks, kThreads, 0, stream>>>(a);
  } else if (eight && a.channels <= 2048) {
    layer_norm_kernel<8><<<blocks, kThreads, 0, stream>>>(a);
  } else {
    layer_norm_any_kernel<<<blocks, kThreads, 0, stream>>>(a);
  }
  check_launch("layer_norm");
}

}  // namespace halftone::backend::cuda
