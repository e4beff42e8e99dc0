// Layer normalisation: one read of x, held in registers.
#include "backend/cuda/launch.h"
#include "backend/cuda/plain/overlap.cuh"
#include "backend/cuda/plain/vectors.cuh"

namespace halftone::backend::cuda {
namespace {

// Of a block, side by side: gamma and beta, which are f32 and as long as a row of 16 bits twice,
// are read once for them.
constexpr int kRows = 4;
constexpr int kMaxWarps = static_cast<int>(kMaxCodedChannels) / 8 / 32;
constexpr int kAnyThreads = 128;

// Combines each row's values over the block; the same in all of its threads. `parts`: used once.
template <class Combine>
__device__ __forceinline__ void reduce_rows(float (&v)[kRows], float4* parts, Combine combine) {
  static_assert(kRows == 4);
#pragma unroll
  for (int d = 1; d < 32; d *= 2) {
#pragma unroll
    for (float& value : v) value = combine(value, __shfl_xor_sync(0xffffffffU, value, d));
  }
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = make_float4(v[0], v[1], v[2], v[3]);
  __syncthreads();
  const auto warps = static_cast<int>(blockDim.x) / 32;
  float4 all = parts[0];
#pragma unroll 4
  for (int i = 1; i < warps; ++i) {
    const float4 part = parts[i];
    all.x = combine(all.x, part.x), all.y = combine(all.y, part.y);
    all.z = combine(all.z, part.z), all.w = combine(all.w, part.w);
  }
  v[0] = all.x, v[1] = all.y, v[2] = all.z, v[3] = all.w;
}

// A block kRows rows, a thread eight of their columns.
template <int kX, int kY>
__global__ void __launch_bounds__(kMaxWarps * 32)
    layer_norm_kernel(const __grid_constant__ LayerNormArgs a) {
  __shared__ float4 parts[3][kMaxWarps];
  const auto channels = static_cast<int>(a.channels);
  if (blockIdx.x == 0) {
    prefetch(a.gamma, channels);
    prefetch(a.beta, channels);
  }
  follow_previous_kernel();
  const auto add = [](float left, float right) { return left + right; };
  const auto larger = [](float left, float right) { return fmaxf(left, right); };
  const bool inside = static_cast<int>(threadIdx.x) * 8 < channels;
  const int col = inside ? static_cast<int>(threadIdx.x) * 8 : 0;
  const int64_t first = blockIdx.x * int64_t{kRows};
  const auto row_at = [&](int r) { return min(first + r, a.rows - 1); };
  Elements<8, kX> x[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) x[r].read(a.x, row_at(r) * channels + col);
  float gamma[8], beta[8];
  load(a.gamma.data, a.gamma.dtype, col, gamma);
  load(a.beta.data, a.beta.dtype, col, beta);
  const float share = 1.0F / static_cast<float>(channels);
  // Divisions take long: a thread makes those of one row, the warp shares them.
  const auto mine = static_cast<int>(threadIdx.x) % kRows;
  float scale = 1.0F;
  if (a.y_scale != nullptr) {
    scale = a.y_scale[a.rows_per_scale >= a.rows ? 0 : row_at(mine) / a.rows_per_scale];
  }
  float y[kRows][8];
  float mean[kRows] = {};
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    x[r].unpack(y[r]);
#pragma unroll
    for (int k = 0; k < 8; ++k) mean[r] += y[r][k];
    if (!inside) mean[r] = 0;
  }
  reduce_rows(mean, parts[0], add);
  float inverse[kRows] = {};
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    mean[r] *= share;
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      y[r][k] -= mean[r];
      inverse[r] = fmaf(y[r][k], y[r][k], inverse[r]);
    }
    if (!inside) inverse[r] = 0;
  }
  reduce_rows(inverse, parts[1], add);
  float largest[kRows] = {};
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    inverse[r] = rsqrtf(fmaf(inverse[r], share, a.eps));
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      y[r][k] = fmaf(y[r][k] * inverse[r], gamma[k], beta[k]);
      largest[r] = fmaxf(largest[r], fabsf(y[r][k]));
    }
  }
  const bool coded = a.y_scale != nullptr || a.y_dynamic != nullptr;
  if (a.y_dynamic != nullptr) {
    reduce_rows(largest, parts[2], larger);
    float own = largest[0];
#pragma unroll
    for (int r = 1; r < kRows; ++r) own = mine == r ? largest[r] : own;
    scale = dynamic_scale(own, a.format.largest);
    if (threadIdx.x < kRows && first + mine < a.rows) a.y_dynamic[first + mine] = scale;
  }
  const float own_inverse = coded ? inverse_of(scale) : 1.0F;
  float y_inverse[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) y_inverse[r] = __shfl_sync(0xffffffffU, own_inverse, r);
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (!inside || first + r >= a.rows) continue;
    write<kY>(a.y, a.format, coded, (first + r) * channels + col, y[r], y_inverse[r]);
  }
}

// Any number of channels: three reads.
__global__ void __launch_bounds__(kAnyThreads)
    layer_norm_any_kernel(const __grid_constant__ LayerNormArgs a) {
  follow_previous_kernel();
  const int64_t row = blockIdx.x * int64_t{kAnyThreads / 32} + threadIdx.x / 32;
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

}  // namespace

void launch_layer_norm(const LayerNormArgs& a, cudaStream_t stream) {
  if (a.rows * a.channels == 0) return;
  const bool coded = a.y_scale != nullptr || a.y_dynamic != nullptr;
  const bool eight = takes_eight(a.x.data, a.x.dtype, a.channels) &&
                     (coded || takes_eight(a.y.data, a.y.dtype, a.channels)) &&
                     takes_eight(a.gamma.data, a.gamma.dtype, a.channels) &&
                     takes_eight(a.beta.data, a.beta.dtype, a.channels);
  if (!eight || a.channels > kMaxCodedChannels) {
    constexpr int64_t kBlockRows = kAnyThreads / 32;
    return launch("layer_norm", layer_norm_any_kernel,
                  dim3(static_cast<unsigned>((a.rows + kBlockRows - 1) / kBlockRows)), kAnyThreads,
                  0, stream, a);
  }
  const auto warps = static_cast<int>((a.channels / 8 + 31) / 32);
  const dim3 blocks(static_cast<unsigned>((a.rows + kRows - 1) / kRows));
  with_known_types(
      a.x.dtype, a.y.dtype, coded ? &a.format : nullptr, [&]<int kX, int kY>(KnownTypes<kX, kY>) {
        launch("layer_norm", layer_norm_kernel<kX, kY>, blocks, warps * 32, 0, stream, a);
      });
}

}  // namespace halftone::backend::cuda
