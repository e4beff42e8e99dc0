// Attention for what no other kernel takes, and the softmax between two matrix products.
#include <cfloat>

#include "backend/cuda/launch.h"
#include "backend/cuda/plain/device.cuh"
#include "backend/cuda/plain/overlap.cuh"

namespace halftone::backend::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kSoftmaxThreads = 512;

// A warp a query of a head: lanes own channels, keys come one after the other (online softmax).
template <int kPerLane>
__global__ void __launch_bounds__(kThreads)
    attention_kernel(const __grid_constant__ AttentionArgs a) {
  follow_previous_kernel();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t total = a.batch * a.heads * a.queries;
  for (int64_t item = blockIdx.x * int64_t{kThreads / 32} + threadIdx.x / 32; item < total;
       item += gridDim.x * int64_t{kThreads / 32}) {
    const int64_t query = item % a.queries;
    const int64_t head = item / a.queries % a.heads;
    const int64_t n = item / (a.queries * a.heads);
    const int64_t column = head * a.head_dim;
    float q[kPerLane], sum[kPerLane];
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int c = i * 32 + lane;
      const bool inside = c < a.head_dim;
      sum[i] = 0;
      q[i] = inside ? a.scale * load1(a.q.data, a.q.dtype,
                                      (n * a.queries + query) * a.q_pitch + column + c)
                    : 0.0F;
    }
    float top = -FLT_MAX;
    float weights = 0;
    const int64_t keys = a.causal ? query + 1 : a.keys;
    for (int64_t key = 0; key < keys; ++key) {
      const int64_t k_at = (n * a.keys + key) * a.k_pitch + column;
      const int64_t v_at = (n * a.keys + key) * a.v_pitch + column;
      float dot = 0;
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) {
        const int c = i * 32 + lane;
        if (c < a.head_dim) dot = fmaf(q[i], load1(a.k.data, a.k.dtype, k_at + c), dot);
      }
      dot = warp_sum(dot);
      const float next = fmaxf(top, dot);
      const float rescale = __expf(top - next);
      const float weight = __expf(dot - next);
      weights = fmaf(weights, rescale, weight);
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) {
        const int c = i * 32 + lane;
        if (c < a.head_dim)
          sum[i] = fmaf(sum[i], rescale, weight * load1(a.v.data, a.v.dtype, v_at + c));
      }
      top = next;
    }
    const float inverse = weights > 0 ? 1.0F / weights : 0.0F;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int c = i * 32 + lane;
      if (c < a.head_dim) {
        store1(a.y.data, a.y.dtype, (n * a.queries + query) * a.y_pitch + column + c,
               sum[i] * inverse);
      }
    }
  }
}

// Few keys. A block: one head of one batch row, kShortQueries queries, one a warp at a time; keys
// and values lie in shared memory as f32, a row of keys padded so that lanes, which own keys, read
// different banks. Lanes own channels for the second product.
constexpr int kShortWarps = 8;
constexpr int kShortQueries = 16;
constexpr int kKeysPerLane = static_cast<int>(kShortAttentionMaxKeys) / 32;
constexpr int kChannelsPerLane = static_cast<int>(kShortAttentionMaxHeadDim) / 32;

__global__ void __launch_bounds__(32 * kShortWarps)
    short_attention_kernel(const __grid_constant__ AttentionArgs a) {
  follow_previous_kernel();
  extern __shared__ float shared[];
  const auto keys = static_cast<int>(a.keys);
  const auto d = static_cast<int>(a.head_dim);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float* k = shared;                                              // [keys][d + 1]
  float* v = k + keys * (d + 1);                                  // [keys][d]
  float* q = v + keys * d + warp * d;                             // [warps][d]
  float* weights = v + keys * d + kShortWarps * d + warp * keys;  // [warps][keys]
  const int64_t n = blockIdx.y / a.heads;
  const int64_t column = (blockIdx.y - n * a.heads) * d;
  for (int i = static_cast<int>(threadIdx.x) * 8; i < keys * d; i += 32 * kShortWarps * 8) {
    const int key = i / d;
    const int c = i - key * d;
    float row[8];
    load(a.k.data, a.k.dtype, (n * keys + key) * a.k_pitch + column + c, row);
#pragma unroll
    for (int e = 0; e < 8; ++e) k[key * (d + 1) + c + e] = row[e];
    load(a.v.data, a.v.dtype, (n * keys + key) * a.v_pitch + column + c, row);
#pragma unroll
    for (int e = 0; e < 8; ++e) v[key * d + c + e] = row[e];
  }
  __syncthreads();
  const int64_t end = min(a.queries, (blockIdx.x + int64_t{1}) * kShortQueries);
  for (int64_t query = blockIdx.x * int64_t{kShortQueries} + warp; query < end;
       query += kShortWarps) {
    const int64_t q_at = (n * a.queries + query) * a.q_pitch + column;
    for (int c = lane; c < d; c += 32) q[c] = a.scale * load1(a.q.data, a.q.dtype, q_at + c);
    __syncwarp();
    const int visible = a.causal ? static_cast<int>(query) + 1 : keys;
    float score[kKeysPerLane];
    float top = -FLT_MAX;
#pragma unroll
    for (int i = 0; i < kKeysPerLane; ++i) {
      const int key = i * 32 + lane;
      score[i] = -FLT_MAX;
      if (key >= visible) continue;
      float dot = 0;
      for (int c = 0; c < d; ++c) dot = fmaf(q[c], k[key * (d + 1) + c], dot);
      score[i] = dot;
      top = fmaxf(top, dot);
    }
    top = warp_max(top);
    float total = 0;
#pragma unroll
    for (int i = 0; i < kKeysPerLane; ++i) {
      const int key = i * 32 + lane;
      if (key >= visible) continue;
      const float weight = __expf(score[i] - top);
      weights[key] = weight;
      total += weight;
    }
    const float inverse = 1.0F / warp_sum(total);
    __syncwarp();
    float sum[kChannelsPerLane] = {};
    for (int key = 0; key < visible; ++key) {
      const float weight = weights[key];
#pragma unroll
      for (int i = 0; i < kChannelsPerLane; ++i) {
        const int c = i * 32 + lane;
        if (c < d) sum[i] = fmaf(weight, v[key * d + c], sum[i]);
      }
    }
    const int64_t y_at = (n * a.queries + query) * a.y_pitch + column;
#pragma unroll
    for (int i = 0; i < kChannelsPerLane; ++i) {
      const int c = i * 32 + lane;
      if (c < d) store1(a.y.data, a.y.dtype, y_at + c, sum[i] * inverse);
    }
    __syncwarp();
  }
}

// Same value in every thread.
template <class Reduce>
__device__ float block_reduce(float v, Reduce reduce) {
  __shared__ float parts[kSoftmaxThreads / 32];
  v = reduce(v);
  __syncthreads();
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
  __syncthreads();
  return reduce(parts[threadIdx.x % (kSoftmaxThreads / 32)]);
}

__global__ void __launch_bounds__(kSoftmaxThreads)
    softmax_kernel(const float* scores, void* weights, DType dtype, float* sums, int64_t keys,
                   float scale) {
  follow_previous_kernel();
  const int64_t at = blockIdx.x * keys;
  float top = -FLT_MAX;
  for (int64_t k = threadIdx.x; k < keys; k += kSoftmaxThreads) top = fmaxf(top, scores[at + k]);
  top = block_reduce(top, [](float v) { return warp_max(v); });
  float sum = 0;
  for (int64_t k = threadIdx.x; k < keys; k += kSoftmaxThreads) {
    const float weight = __expf(scale * (scores[at + k] - top));
    store1(weights, dtype, at + k, weight);
    // Sum what the product will see.
    sum += load1(weights, dtype, at + k);
  }
  // Each part appears twice among a warp's lanes.
  constexpr float kCopies = 32.0F / (kSoftmaxThreads / 32);
  sum = block_reduce(sum, [](float v) { return warp_sum(v); });
  if (threadIdx.x == 0) sums[blockIdx.x] = sum / kCopies;
}

__global__ void __launch_bounds__(256)
    divide_rows_kernel(const float* x, const float* sums, TypedOut y, int64_t rows, int64_t cols,
                       int64_t pitch) {
  follow_previous_kernel();
  for (int64_t i = blockIdx.x * int64_t{256} + threadIdx.x; i < rows * cols;
       i += gridDim.x * int64_t{256}) {
    const int64_t row = i / cols;
    store1(y.data, y.dtype, row * pitch + i - row * cols, x[i] / sums[row]);
  }
}

}  // namespace

void launch_plain_attention(const AttentionArgs& a, cudaStream_t stream) {
  const int64_t items = a.batch * a.heads * a.queries;
  if (items == 0) return;
  const unsigned blocks = num_blocks(items * 32, kThreads);
  if (a.head_dim <= 64) {
    launch("attention", attention_kernel<2>, blocks, kThreads, 0, stream, a);
  } else if (a.head_dim <= 160) {
    launch("attention", attention_kernel<5>, blocks, kThreads, 0, stream, a);
  } else {
    launch("attention", attention_kernel<16>, blocks, kThreads, 0, stream, a);
  }
}

void launch_short_attention(const AttentionArgs& a, cudaStream_t stream) {
  if (a.batch * a.heads * a.queries == 0) return;
  const int64_t floats = a.keys * (2 * a.head_dim + 1) + kShortWarps * (a.head_dim + a.keys);
  const auto bytes = static_cast<size_t>(floats) * sizeof(float);
  check(cudaFuncSetAttribute(short_attention_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(bytes)),
        "asking for shared memory");
  const dim3 blocks(static_cast<unsigned>((a.queries + kShortQueries - 1) / kShortQueries),
                    static_cast<unsigned>(a.batch * a.heads));
  launch("attention, few keys", short_attention_kernel, blocks, 32 * kShortWarps, bytes, stream, a);
}

void launch_softmax_rows(const float* scores, void* weights, DType dtype, float* sums, int64_t rows,
                         int64_t keys, float scale, cudaStream_t stream) {
  if (rows == 0) return;
  launch("softmax", softmax_kernel, dim3(static_cast<unsigned>(rows)), kSoftmaxThreads, 0, stream,
         scores, weights, dtype, sums, keys, scale);
}

void launch_divide_rows(const float* x, const float* sums, TypedOut y, int64_t rows, int64_t cols,
                        int64_t pitch, cudaStream_t stream) {
  if (rows * cols == 0) return;
  launch("divide_rows", divide_rows_kernel, dim3(num_blocks(rows * cols, 256)), 256, 0, stream, x,
         sums, y, rows, cols, pitch);
}

}  // namespace halftone::backend::cuda
