// Quantize, Dequantize and Scale for every granularity. Maxima are order-free, so atomics on their
// bits give the same result every run.
#include <algorithm>

#include "backend/cuda/error.h"
#include "backend/cuda/plain/codes.cuh"
#include "backend/cuda/plain/device.cuh"

namespace halftone::backend::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kPiece = 4096;  // elements of a group that a block reduces at least

__device__ __forceinline__ float input(const QuantizeArgs& a, int64_t i) {
  const float v = load1(a.x.data, a.x.dtype, i);
  return a.gamma.data == nullptr ? v : __fmul_rn(v, load1(a.gamma.data, a.gamma.dtype, i % a.cols));
}

// Block (piece, group): the largest magnitude's bits into the group's scale.
__global__ void __launch_bounds__(kThreads) amax_kernel(const __grid_constant__ QuantizeArgs a) {
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

template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    quantize_kernel(const __grid_constant__ QuantizeArgs a) {
  const float* scales = a.scale_in != nullptr ? a.scale_in : a.scale_out;
  const float zero = a.zero != nullptr ? static_cast<float>(*a.zero) : 0.0F;
  const int64_t total = a.rows * a.cols;
  for (int64_t i = (blockIdx.x * int64_t{kThreads} + threadIdx.x) * kWidth; i < total;
       i += gridDim.x * int64_t{kThreads} * kWidth) {
    const float inverse = inverse_of(scale_at(scales, a.rows_per_scale, i / a.cols));
    float v[kWidth];
    load(a.x.data, a.x.dtype, i, v);
    if (a.gamma.data != nullptr) {
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        v[k] = __fmul_rn(v[k], load1(a.gamma.data, a.gamma.dtype, (i + k) % a.cols));
      }
    }
    store_codes(a.y, i, a.format, v, inverse, zero);
  }
}

// A row's own scale and its codes in one read: kWarps warps a row, kVectors * 8 elements a thread.
template <int kWarps, int kVectors>
__global__ void __launch_bounds__(kThreads)
    quantize_rows_kernel(const __grid_constant__ QuantizeArgs a) {
  constexpr int kRowThreads = kWarps * 32;
  __shared__ float tops[kThreads / 32];
  const int64_t row = blockIdx.x * int64_t{kThreads / kRowThreads} + threadIdx.x / kRowThreads;
  const int thread = static_cast<int>(threadIdx.x) % kRowThreads;
  const auto cols = static_cast<int>(a.cols);
  const bool inside = row < a.rows;
  float v[kVectors][8];
  float amax = 0;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int c = (i * kRowThreads + thread) * 8;
    if (!inside || c >= cols) continue;
    load(a.x.data, a.x.dtype, row * cols + c, v[i]);
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      if (a.gamma.data != nullptr)
        v[i][k] = __fmul_rn(v[i][k], load1(a.gamma.data, a.gamma.dtype, c + k));
      amax = fmaxf(amax, fabsf(v[i][k]));
    }
  }
  amax = warp_max(amax);
  if constexpr (kWarps > 1) {
    if (thread % 32 == 0) tops[threadIdx.x / 32] = amax;
    __syncthreads();
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      amax = fmaxf(amax, tops[static_cast<int>(threadIdx.x) / kRowThreads * kWarps + w]);
    }
  }
  if (!inside) return;
  const float scale = dynamic_scale(amax, a.format.largest);
  if (thread == 0) a.scale_out[row] = scale;
  const float inverse = inverse_of(scale);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int c = (i * kRowThreads + thread) * 8;
    if (c < cols) store_codes(a.y, row * cols + c, a.format, v[i], inverse);
  }
}

// A byte of 8 / bits elements a thread.
__global__ void __launch_bounds__(kThreads)
    quantize_packed_kernel(const __grid_constant__ QuantizeArgs a) {
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
  const float zero = a.zero != nullptr ? static_cast<float>(*a.zero) : 0.0F;
  const int64_t total = a.rows * a.cols;
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < total;
       i += gridDim.x * int64_t{kThreads}) {
    const float scale = a.scale == nullptr ? 1.0F : scale_at(a.scale, a.rows_per_scale, i / a.cols);
    store1(a.y.data, a.y.dtype, i, __fmul_rn(scale, __fsub_rn(code_value(a.x, a.format, i), zero)));
  }
}

__global__ void __launch_bounds__(kThreads) scale_kernel(const __grid_constant__ ScaleArgs a) {
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < a.count;
       i += gridDim.x * int64_t{kThreads}) {
    const int64_t index = i / a.inner % a.extent;
    store1(a.y.data, a.y.dtype, i,
           __fmul_rn(load1(a.x.data, a.x.dtype, i), load1(a.gamma.data, a.gamma.dtype, index)));
  }
}

}  // namespace

namespace {

template <int kWarps, int kVectors>
void quantize_rows(const QuantizeArgs& a, cudaStream_t stream) {
  constexpr int kRows = kThreads / (kWarps * 32);
  quantize_rows_kernel<kWarps, kVectors>
      <<<static_cast<unsigned>((a.rows + kRows - 1) / kRows), kThreads, 0, stream>>>(a);
  check_launch("quantize");
}

// Rows with scales of their own that fit into registers.
bool takes_rows(const QuantizeArgs& a) {
  return a.scale_in == nullptr && a.groups == a.rows && a.zero == nullptr &&
         a.format.dtype != DType::kU8 && a.cols <= kThreads * 8 * 4 &&
         takes_eight(a.x.data, a.x.dtype, a.cols) && is_aligned(a.y, 8);
}

}  // namespace

void launch_quantize(const QuantizeArgs& a, cudaStream_t stream) {
  if (a.rows * a.cols == 0) return;
  if (takes_rows(a)) {
    if (a.cols <= 768) return quantize_rows<1, 3>(a, stream);
    if (a.cols <= 1280) return quantize_rows<1, 5>(a, stream);
    if (a.cols <= 2560) return quantize_rows<4, 3>(a, stream);
    if (a.cols <= 5120) return quantize_rows<8, 3>(a, stream);
    return quantize_rows<8, 4>(a, stream);
  }
  if (a.scale_in == nullptr) {
    check(cudaMemsetAsync(a.scale_out, 0, static_cast<size_t>(a.groups) * sizeof(float), stream),
          "clearing maxima");
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
      amax_kernel<<<dim3(pieces, static_cast<unsigned>(groups)), kThreads, 0, stream>>>(part);
    }
    scales_kernel<<<a.groups == 1 ? 1 : num_blocks(a.groups, kThreads), kThreads, 0, stream>>>(a);
  }
  if (a.format.dtype == DType::kU8) {
    quantize_packed_kernel<<<num_blocks(a.rows * a.cols / (8 / a.format.bits), kThreads), kThreads,
                             0, stream>>>(a);
  } else if (takes_eight(a.x.data, a.x.dtype, a.cols) && is_aligned(a.y, 8)) {
    quantize_kernel<8><<<num_blocks(a.rows * a.cols / 8, kThreads), kThreads, 0, stream>>>(a);
  } else {
    quantize_kernel<1><<<num_blocks(a.rows * a.cols, kThreads), kThreads, 0, stream>>>(a);
  }
  check_launch("quantize");
}

void launch_dequantize(const DequantizeArgs& a, cudaStream_t stream) {
  if (a.rows * a.cols == 0) return;
  dequantize_kernel<<<num_blocks(a.rows * a.cols, kThreads), kThreads, 0, stream>>>(a);
  check_launch("dequantize");
}

void launch_scale(const ScaleArgs& a, cudaStream_t stream) {
  if (a.count == 0) return;
  scale_kernel<<<num_blocks(a.count, kThreads), kThreads, 0, stream>>>(a);
  check_launch("scale");
}

}  // namespace halftone::backend::cuda
