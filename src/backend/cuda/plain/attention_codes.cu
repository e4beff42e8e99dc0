// Attention with parts in 8 bits for what no other kernel takes, and the centring of its keys.
#include <cfloat>

#include "backend/cuda/error.h"
#include "backend/cuda/plain/codes.cuh"
#include "backend/cuda/plain/device.cuh"

namespace halftone::backend::cuda {
namespace {

constexpr int kThreads = 128;
constexpr float kLargest = 448;  // code of the weight 1

// A value, or a code before its scale.
__device__ __forceinline__ float load_any(Typed t, int64_t i) {
  switch (t.dtype) {
    case DType::kI8:
      return static_cast<float>(static_cast<const int8_t*>(t.data)[i]);
    case DType::kF8E4M3:
      return f8_value(static_cast<const uint8_t*>(t.data)[i]);
    default:
      return load1(t.data, t.dtype, i);
  }
}

__device__ __forceinline__ float scale_of(const float* scales, bool by_part, int64_t part) {
  return scales == nullptr ? 1.0F : scales[by_part ? part : 0];
}

// A warp a query of a head: lanes own channels, keys come one after the other, twice: weights are
// rounded relative to the largest score of all.
template <int kPerLane>
__global__ void __launch_bounds__(kThreads)
    codes_attention_kernel(const __grid_constant__ CodesAttentionArgs args) {
  const AttentionArgs& a = args.base;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t total = a.batch * a.heads * a.queries;
  for (int64_t item = blockIdx.x * int64_t{kThreads / 32} + threadIdx.x / 32; item < total;
       item += gridDim.x * int64_t{kThreads / 32}) {
    const int64_t query = item % a.queries;
    const int64_t head = item / a.queries % a.heads;
    const int64_t n = item / (a.queries * a.heads);
    const int64_t column = head * a.head_dim;
    const int64_t row = n * a.queries + query;
    const float factor = a.scale * scale_of(args.q_scale, args.q_by_part, row * a.heads + head);
    float q[kPerLane], sum[kPerLane];
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int c = i * 32 + lane;
      sum[i] = 0;
      q[i] = c < a.head_dim ? load_any(a.q, row * a.q_pitch + column + c) : 0.0F;
    }
    const auto score = [&](int64_t key) {
      const int64_t token = n * a.keys + key;
      float dot = 0;
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) {
        const int c = i * 32 + lane;
        if (c < a.head_dim) dot = fmaf(q[i], load_any(a.k, token * a.k_pitch + column + c), dot);
      }
      return warp_sum(dot) * factor *
             scale_of(args.k_scale, args.k_by_part, token * a.heads + head);
    };
    const int64_t keys = a.causal ? query + 1 : a.keys;
    float top = -FLT_MAX;
    for (int64_t key = 0; key < keys; ++key) top = fmaxf(top, score(key));
    float weights = 0;
    for (int64_t key = 0; key < keys; ++key) {
      float weight = __expf(score(key) - top);
      weights += weight;
      if (args.rounds) weight = f8_value(static_cast<uint8_t>(two_f8(kLargest * weight, 0.0F)));
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) {
        const int c = i * 32 + lane;
        if (c < a.head_dim) {
          const int64_t at = (n * a.keys + key) * a.v_pitch + column + c;
          sum[i] = fmaf(weight, load_any(a.v, at), sum[i]);
        }
      }
    }
    if (args.rounds) weights *= kLargest;
    const float inverse = weights > 0 ? scale_of(args.v_scale, false, 0) / weights : 0.0F;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int c = i * 32 + lane;
      if (c < a.head_dim)
        store1(a.y.data, a.y.dtype, row * a.y_pitch + column + c, sum[i] * inverse);
    }
  }
}

// A block owns 32 channels of a batch row, a warp every kCenterWarps-th token.
constexpr int kCenterWarps = 16;

__global__ void __launch_bounds__(32 * kCenterWarps)
    center_kernel(const __grid_constant__ CenterArgs a) {
  __shared__ float parts[kCenterWarps][32];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int64_t c = blockIdx.x * int64_t{32} + lane;
  const bool inside = c < a.channels;
  const int64_t first = blockIdx.y * a.tokens * a.channels + c;
  float sum = 0;
#pragma unroll 4
  for (int64_t t = warp; t < a.tokens; t += kCenterWarps) {
    if (inside) sum += load1(a.x.data, a.x.dtype, first + t * a.channels);
  }
  parts[warp][lane] = sum;
  __syncthreads();
  sum = 0;
#pragma unroll
  for (int w = 0; w < kCenterWarps; ++w) sum += parts[w][lane];
  const float mean = sum / static_cast<float>(a.tokens);
#pragma unroll 4
  for (int64_t t = warp; t < a.tokens; t += kCenterWarps) {
    const int64_t i = first + t * a.channels;
    if (inside) store1(a.y.data, a.y.dtype, i, load1(a.x.data, a.x.dtype, i) - mean);
  }
}

}  // namespace

void launch_codes_attention(const CodesAttentionArgs& args, cudaStream_t stream) {
  const AttentionArgs& a = args.base;
  const int64_t items = a.batch * a.heads * a.queries;
  if (items == 0) return;
  const unsigned blocks = num_blocks(items * 32, kThreads);
  if (a.head_dim <= 64) {
    codes_attention_kernel<2><<<blocks, kThreads, 0, stream>>>(args);
  } else if (a.head_dim <= 160) {
    codes_attention_kernel<5><<<blocks, kThreads, 0, stream>>>(args);
  } else {
    codes_attention_kernel<16><<<blocks, kThreads, 0, stream>>>(args);
  }
  check_launch("attention of codes");
}

void launch_center(const CenterArgs& a, cudaStream_t stream) {
  if (a.batch * a.tokens * a.channels == 0) return;
  const dim3 blocks(static_cast<unsigned>((a.channels + 31) / 32), static_cast<unsigned>(a.batch));
  center_kernel<<<blocks, 32 * kCenterWarps, 0, stream>>>(a);
  check_launch("center");
}

}  // namespace halftone::backend::cuda
