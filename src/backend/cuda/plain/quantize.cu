// Quantize, Dequantize and Scale for every granularity. Maxima are order-free, so atomics on their
// bits give the same result every run.
#include <algorithm>

#include "backend/cuda/launch.h"
#include "backend/cuda/plain/overlap.cuh"
#include "backend/cuda/plain/vectors.cuh"

namespace halftone::backend::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kPiece = 4096;  // elements of a group that a block reduces at least

__device__ __forceinline__ float input(const QuantizeArgs& a, int64_t i) {
  const float v = load1(a.x.data, a.x.dtype, i);
  return a.gamma.data == nullptr ? v : __fmul_rn(v, load1(a.gamma.data, a.gamma.dtype, i % a.cols));
}

// v times gamma's columns from `col` on.
template <int kWidth>
__device__ __forceinline__ void smooth(const QuantizeArgs& a, int64_t col, float (&v)[kWidth]) {
  if (a.gamma.data == nullptr) return;
  float gamma[kWidth];
  load(a.gamma.data, a.gamma.dtype, col, gamma);
#pragma unroll
  for (int k = 0; k < kWidth; ++k) v[k] = __fmul_rn(v[k], gamma[k]);
}

__global__ void __launch_bounds__(kThreads) clear_kernel(float* y, int64_t count) {
  follow_previous_kernel();
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < count;
       i += gridDim.x * int64_t{kThreads}) {
    y[i] = 0;
  }
}

// Block (piece, group): the largest magnitude's bits into the group's scale.
__global__ void __launch_bounds__(kThreads) amax_kernel(const __grid_constant__ QuantizeArgs a) {
  follow_previous_kernel();
  const int64_t size = a.rows / a.groups * a.cols;
  const int64_t base = blockIdx.y * size;
  float amax = 0;
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < size;
       i += gridDim.x * int64_t{kThreads}) {
    amax = fmaxf(amax, fabsf(input(a, base + i)));
  }
  amax = warp_max(amax);
  if (threadIdx.x % 32 == 0) {
    atomicMax(reinterpret_cast<unsigned*>(a.scale_out) + blockIdx.y, __float_as_uint(amax));
  }
}

// Maxima to scales; a single group's scale is repeated `repeats` times.
__global__ void __launch_bounds__(kThreads) scales_kernel(const __grid_constant__ QuantizeArgs a) {
  follow_previous_kernel();
  const int64_t count = std::max(a.groups, a.repeats);
  const float common = a.scale_out[0];
  __syncthreads();
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < count;
       i += gridDim.x * int64_t{kThreads}) {
    a.scale_out[i] = dynamic_scale(a.groups == 1 ? common : a.scale_out[i], a.format.largest);
  }
}

__device__ __forceinline__ float scale_at(const float* scales, int64_t rows_per_scale,
                                          int64_t row) {
  return scales[row / rows_per_scale];
}

// The one scale, from what the maker of x took. Every block finds it for itself, which is less than
// another launch; the first one keeps it.
__device__ __forceinline__ float scale_of_parts(const QuantizeArgs& a) {
  __shared__ float warps[kThreads / 32];
  float amax = 0;
#pragma unroll 8
  for (int64_t i = threadIdx.x; i < a.amax_count; i += kThreads) amax = fmaxf(amax, a.amax[i]);
  const float scale = dynamic_scale(max_row<kThreads>(amax, warps), a.format.largest);
  if (blockIdx.x == 0 && threadIdx.x == 0) *a.scale_out = scale;
  return scale;
}

// Known scales, or one that is to be merged from amax.
template <int kWidth, int kX, int kY, bool kMerges>
__global__ void __launch_bounds__(kThreads)
    quantize_kernel(const __grid_constant__ QuantizeArgs a) {
  constexpr int kBatch = 2;
  follow_previous_kernel();
  const float* scales = a.scale_in != nullptr ? a.scale_in : a.scale_out;
  const float zero = a.zero != nullptr ? static_cast<float>(*a.zero) : 0.0F;
  const int64_t total = a.rows * a.cols / kWidth;
  const int64_t step = gridDim.x * int64_t{kThreads};
  const bool one_scale = a.rows_per_scale >= a.rows;
  const bool by_rows = !kMerges && (!one_scale || a.gamma.data != nullptr);
  const bool is_small = a.rows * a.cols < (int64_t{1} << 31);  // 64-bit division takes longer
  const float common = inverse_of(kMerges ? scale_of_parts(a) : scales[0]);
  for (int64_t first = blockIdx.x * int64_t{kThreads} + threadIdx.x; first < total;
       first += kBatch * step) {
    Elements<kWidth, kX> x[kBatch];
#pragma unroll
    for (int r = 0; r < kBatch; ++r) x[r].read(a.x, min(first + r * step, total - 1) * kWidth);
#pragma unroll
    for (int r = 0; r < kBatch; ++r) {
      // Behind the end the last elements are written again.
      const int64_t i = min(first + r * step, total - 1) * kWidth;
      float v[kWidth];
      x[r].unpack(v);
      float inverse = common;
      if (by_rows) {
        const int64_t row =
            is_small ? static_cast<uint32_t>(i) / static_cast<uint32_t>(a.cols) : i / a.cols;
        smooth(a, i - row * a.cols, v);
        if (!one_scale) inverse = inverse_of(scale_at(scales, a.rows_per_scale, row));
      }
      if constexpr (kY == kAny) {
        store_codes(a.y, i, a.format, v, inverse, zero);
      } else {
        write<kY>({a.y, DType::kI8}, a.format, true, i, v, inverse);
      }
    }
  }
}

// A row's own scale and its codes in one read: kLanes threads a row, kVectors * 8 elements each;
// 640, 1280, 2560, 5120 and 10240 columns leave none idle.
constexpr int kVectors = 5;
constexpr int kMaxLanes = 256;
constexpr int row_threads(int lanes) { return std::max(lanes, 128); }

template <int kLanes, int kX, int kY>
__global__ void __launch_bounds__(row_threads(kLanes))
    quantize_rows_kernel(const __grid_constant__ QuantizeArgs a) {
  constexpr int kRows = row_threads(kLanes) / kLanes;
  __shared__ float parts[row_threads(kLanes) / 32];
  follow_previous_kernel();
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int64_t wanted = blockIdx.x * int64_t{kRows} + threadIdx.x / kLanes;
  const bool inside = wanted < a.rows;
  const auto cols = static_cast<int>(a.cols);
  const int64_t base = (inside ? wanted : a.rows - 1) * cols;
  const auto col = [&](int i) { return (i * kLanes + lane) * 8; };
  Elements<8, kX> x[kVectors];
  // Beyond the row there are the last columns again.
#pragma unroll
  for (int i = 0; i < kVectors; ++i) x[i].read(a.x, base + min(col(i), cols - 8));
  float v[kVectors][8];
  float amax = 0;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    x[i].unpack(v[i]);
    smooth(a, min(col(i), cols - 8), v[i]);
#pragma unroll
    for (int k = 0; k < 8; ++k) amax = fmaxf(amax, fabsf(v[i][k]));
  }
  const float scale = dynamic_scale(max_row<kLanes>(amax, parts), a.format.largest);
  if (!inside) return;
  if (lane == 0) a.scale_out[wanted] = scale;
  const float inverse = inverse_of(scale);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    if (col(i) < cols) {
      write<kY>({a.y, DType::kI8}, a.format, true, base + col(i), v[i], inverse);
    }
  }
}

// A byte of 8 / bits elements a thread.
__global__ void __launch_bounds__(kThreads)
    quantize_packed_kernel(const __grid_constant__ QuantizeArgs a) {
  follow_previous_kernel();
  const float* scales = a.scale_in != nullptr ? a.scale_in : a.scale_out;
  const float zero = a.zero != nullptr ? static_cast<float>(*a.zero) : 0.0F;
  const int per_byte = 8 / a.format.bits;
  const int64_t total = a.rows * a.cols / per_byte;
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < total;
       i += gridDim.x * int64_t{kThreads}) {
    const float inverse = inverse_of(scale_at(scales, a.rows_per_scale, i * per_byte / a.cols));
    unsigned byte = 0;
    for (int k = 0; k < per_byte; ++k) {
      const unsigned code = code_of(a.format, input(a, i * per_byte + k), inverse, zero);
      byte |= (code & ((1U << a.format.bits) - 1U)) << (k * a.format.bits);
    }
    static_cast<uint8_t*>(a.y)[i] = static_cast<uint8_t>(byte);
  }
}

__global__ void __launch_bounds__(kThreads)
    dequantize_kernel(const __grid_constant__ DequantizeArgs a) {
  follow_previous_kernel();
  const float zero = a.zero != nullptr ? static_cast<float>(*a.zero) : 0.0F;
  const int64_t total = a.rows * a.cols;
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < total;
       i += gridDim.x * int64_t{kThreads}) {
    const float scale = a.scale == nullptr ? 1.0F : scale_at(a.scale, a.rows_per_scale, i / a.cols);
    store1(a.y.data, a.y.dtype, i, __fmul_rn(scale, __fsub_rn(code_value(a.x, a.format, i), zero)));
  }
}

__global__ void __launch_bounds__(kThreads) scale_kernel(const __grid_constant__ ScaleArgs a) {
  follow_previous_kernel();
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < a.count;
       i += gridDim.x * int64_t{kThreads}) {
    const int64_t index = i / a.inner % a.extent;
    store1(a.y.data, a.y.dtype, i,
           __fmul_rn(load1(a.x.data, a.x.dtype, i), load1(a.gamma.data, a.gamma.dtype, index)));
  }
}

template <int kLanes, int kX, int kY>
void run_rows(const QuantizeArgs& a, cudaStream_t stream) {
  constexpr int kRows = row_threads(kLanes) / kLanes;
  launch("quantize", quantize_rows_kernel<kLanes, kX, kY>,
         dim3(static_cast<unsigned>((a.rows + kRows - 1) / kRows)), row_threads(kLanes), 0, stream,
         a);
}

// Rows with scales of their own that fit into registers.
bool takes_rows(const QuantizeArgs& a) {
  return a.scale_in == nullptr && a.groups == a.rows && a.zero == nullptr &&
         a.format.dtype != DType::kU8 && a.cols <= kMaxLanes * kVectors * 8 &&
         takes_eight(a.x.data, a.x.dtype, a.cols) &&
         takes_eight(a.gamma.data, a.gamma.dtype, a.cols) && is_aligned(a.y, 8);
}

void quantize_rows(const QuantizeArgs& a, cudaStream_t stream) {
  with_known_types(a.x.dtype, a.format.dtype, &a.format, [&]<int kX, int kY>(KnownTypes<kX, kY>) {
    constexpr int kPerLane = kVectors * 8;
    if (a.cols <= 16 * kPerLane) return run_rows<16, kX, kY>(a, stream);
    if (a.cols <= 32 * kPerLane) return run_rows<32, kX, kY>(a, stream);
    if (a.cols <= 64 * kPerLane) return run_rows<64, kX, kY>(a, stream);
    if (a.cols <= 128 * kPerLane) return run_rows<128, kX, kY>(a, stream);
    run_rows<kMaxLanes, kX, kY>(a, stream);
  });
}

// One read for the maxima, whatever the groups.
void find_scales(const QuantizeArgs& a, cudaStream_t stream) {
  launch("quantize, clearing maxima", clear_kernel, dim3(num_blocks(a.groups, kThreads)), kThreads,
         0, stream, a.scale_out, a.groups);
  const int64_t size = a.rows / a.groups * a.cols;
  const auto pieces = static_cast<unsigned>(
      std::clamp<int64_t>(size / kPiece, 1, std::max<int64_t>(1024 / a.groups, 1)));
  constexpr int64_t kMaxGrid = 65535;
  for (int64_t first = 0; first < a.groups; first += kMaxGrid) {
    QuantizeArgs part = a;
    const int64_t groups = std::min(kMaxGrid, a.groups - first);
    part.x.data = static_cast<const std::byte*>(a.x.data) +
                  static_cast<size_t>(first * size) * size_of(a.x.dtype);
    part.scale_out = a.scale_out + first;
    launch("quantize, maxima", amax_kernel, dim3(pieces, static_cast<unsigned>(groups)), kThreads,
           0, stream, part);
  }
  const unsigned blocks = a.groups == 1 ? 1 : num_blocks(a.groups, kThreads);
  launch("quantize, scales", scales_kernel, dim3(blocks), kThreads, 0, stream, a);
}

// Blocks that find the scale first: about as many as an H200 runs at once.
constexpr unsigned kOneWave = 132 * 2048 / kThreads;

template <bool kMerges>
void quantize_elements(const QuantizeArgs& a, cudaStream_t stream) {
  const int64_t elements = a.rows * a.cols;
  const auto blocks_for = [](int64_t items) {
    const unsigned blocks = num_blocks(items, kThreads);
    return dim3(kMerges ? std::min(blocks, kOneWave) : blocks);
  };
  if (!takes_eight(a.x.data, a.x.dtype, a.cols) ||
      !takes_eight(a.gamma.data, a.gamma.dtype, a.cols) || !is_aligned(a.y, 8)) {
    return launch("quantize", quantize_kernel<1, kAny, kAny, kMerges>, blocks_for(elements),
                  kThreads, 0, stream, a);
  }
  const dim3 blocks = blocks_for(elements / 16);
  if (a.zero != nullptr) {
    return launch("quantize", quantize_kernel<8, kAny, kAny, kMerges>, blocks, kThreads, 0, stream,
                  a);
  }
  with_known_types(a.x.dtype, a.format.dtype, &a.format, [&]<int kX, int kY>(KnownTypes<kX, kY>) {
    launch("quantize", quantize_kernel<8, kX, kY, kMerges>, blocks, kThreads, 0, stream, a);
  });
}

}  // namespace

void launch_quantize(const QuantizeArgs& a, cudaStream_t stream) {
  if (a.rows * a.cols == 0) {  // what nothing was found for still has a scale
    if (a.scale_in == nullptr && std::min(a.groups, a.repeats) > 0) find_scales(a, stream);
    return;
  }
  if (takes_rows(a)) return quantize_rows(a, stream);  // one row finds its amax as fast as it reads
  if (a.amax != nullptr) return quantize_elements<true>(a, stream);
  if (a.scale_in == nullptr) find_scales(a, stream);
  if (a.format.dtype == DType::kU8) {
    const int64_t bytes = a.rows * a.cols / (8 / a.format.bits);
    return launch("quantize", quantize_packed_kernel, dim3(num_blocks(bytes, kThreads)), kThreads,
                  0, stream, a);
  }
  quantize_elements<false>(a, stream);
}

void launch_dequantize(const DequantizeArgs& a, cudaStream_t stream) {
  if (a.rows * a.cols == 0) return;
  launch("dequantize", dequantize_kernel, dim3(num_blocks(a.rows * a.cols, kThreads)), kThreads, 0,
         stream, a);
}

void launch_scale(const ScaleArgs& a, cudaStream_t stream) {
  if (a.count == 0) return;
  launch("scale", scale_kernel, dim3(num_blocks(a.count, kThreads)), kThreads, 0, stream, a);
}

}  // namespace halftone::backend::cuda
