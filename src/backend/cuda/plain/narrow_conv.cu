// Convolutions that are too narrow for tensor cores: the first and last of a network. Weights lie
// in shared memory as f32; sums are f32.
#include <algorithm>

#include "backend/cuda/launch.h"
#include "backend/cuda/plain/device.cuh"
#include "backend/cuda/plain/overlap.cuh"

namespace halftone::backend::cuda {
namespace {

constexpr int kThreads = 256;
constexpr unsigned kMaxBlocks = 528;  // each reads all weights first
constexpr int kOutputs = static_cast<int>(kNarrowConvOutputs);

// A thread: one pixel, eight neighbouring outputs. Weights [kernel * in][out].
__global__ void __launch_bounds__(kThreads)
    few_inputs_kernel(const __grid_constant__ NarrowConvArgs a) {
  follow_previous_kernel();
  extern __shared__ float weight[];
  const PlainConvArgs& c = a.conv;
  const auto in = static_cast<int>(c.in);
  const auto out = static_cast<int>(c.out);
  const int terms = static_cast<int>(c.kernel_h * c.kernel_w) * in;
  for (int i = static_cast<int>(threadIdx.x); i < terms * out; i += kThreads) {
    weight[i] =
        load1(c.weight.data, c.weight.dtype, static_cast<int64_t>(i % out) * terms + i / out);
  }
  __syncthreads();
  const int groups = out / 8;
  const int64_t total = c.n * c.out_h * c.out_w * groups;
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < total;
       i += gridDim.x * int64_t{kThreads}) {
    const int64_t pixel = i / groups;
    const int first = static_cast<int>(i - pixel * groups) * 8;
    const int64_t n = pixel / (c.out_h * c.out_w);
    const int64_t h = pixel / c.out_w % c.out_h * c.stride - c.pad;
    const int64_t w = pixel % c.out_w * c.stride - c.pad;
    float sum[8] = {};
    if (a.bias.data != nullptr) load(a.bias.data, a.bias.dtype, first, sum);
    int term = 0;
    for (int64_t r = 0; r < c.kernel_h; ++r) {
      for (int64_t s = 0; s < c.kernel_w; ++s, term += in) {
        if (h + r < 0 || h + r >= c.h || w + s < 0 || w + s >= c.w) continue;
        const int64_t at = ((n * c.h + h + r) * c.w + w + s) * in;
        for (int k = 0; k < in; ++k) {
          const float x = load1(c.x.data, c.x.dtype, at + k);
          const auto* row = reinterpret_cast<const float4*>(weight + (term + k) * out + first);
          const float4 low = row[0];
          const float4 high = row[1];
          sum[0] = fmaf(x, low.x, sum[0]), sum[1] = fmaf(x, low.y, sum[1]);
          sum[2] = fmaf(x, low.z, sum[2]), sum[3] = fmaf(x, low.w, sum[3]);
          sum[4] = fmaf(x, high.x, sum[4]), sum[5] = fmaf(x, high.y, sum[5]);
          sum[6] = fmaf(x, high.z, sum[6]), sum[7] = fmaf(x, high.w, sum[7]);
        }
      }
    }
    store(a.y.data, a.y.dtype, pixel * out + first, sum);
  }
}

// Eight lanes: kPixels neighbouring pixels of a row; each lane every eighth vector of channels.
// Weights [kernel][8][in / 8][kOutputs]: what the lanes read at one time lies side by side.
constexpr int kPixels = 4;
constexpr int kLanes = 8;

template <int kType>  // of x; -1: known at run time
__global__ void __launch_bounds__(kThreads)
    few_outputs_kernel(const __grid_constant__ NarrowConvArgs a) {
  follow_previous_kernel();
  const DType x_type = kType < 0 ? a.conv.x.dtype : static_cast<DType>(kType);
  extern __shared__ float weight[];
  const PlainConvArgs& c = a.conv;
  const auto in = static_cast<int>(c.in);
  const auto out = static_cast<int>(c.out);
  const int terms = static_cast<int>(c.kernel_h * c.kernel_w) * in;
  for (int i = static_cast<int>(threadIdx.x); i < terms * kOutputs; i += kThreads) {
    const int o = i % kOutputs;
    const int term = i / kOutputs;
    const int channel = term % in;
    const int at = ((term / in * 8 + channel % 8) * (in / 8) + channel / 8) * kOutputs + o;
    weight[at] = o < out
                     ? load1(c.weight.data, c.weight.dtype, static_cast<int64_t>(o) * terms + term)
                     : 0.0F;
  }
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int64_t per_row = (c.out_w + kPixels - 1) / kPixels;
  const int64_t total = c.n * c.out_h * per_row;
  const int64_t step = gridDim.x * int64_t{kThreads / kLanes};
  const int64_t mine = blockIdx.x * int64_t{kThreads / kLanes} + threadIdx.x / kLanes;
  // All lanes of a warp go round equally often: they shuffle.
  for (int64_t round = 0; round * step < total; ++round) {
    const int64_t i = mine + round * step;
    const bool inside = i < total;
    const int64_t row = inside ? i / per_row : 0;
    const int64_t col = inside ? (i - row * per_row) * kPixels : 0;
    const int64_t n = row / c.out_h;
    const int64_t h = row % c.out_h * c.stride - c.pad;
    float sum[kPixels][kOutputs] = {};
    for (int64_t r = 0; inside && r < c.kernel_h; ++r) {
      if (h + r < 0 || h + r >= c.h) continue;
      for (int64_t s = 0; s < c.kernel_w; ++s) {
        const auto tap = static_cast<int>(r * c.kernel_w + s);
        for (int k = lane * 8; k < in; k += kLanes * 8) {
          float x[kPixels][8];
#pragma unroll
          for (int p = 0; p < kPixels; ++p) {
            const int64_t w = (col + p) * c.stride - c.pad + s;
            if (w >= 0 && w < c.w) {
              load(c.x.data, x_type, ((n * c.h + h + r) * c.w + w) * in + k, x[p]);
            } else {
#pragma unroll
              for (int e = 0; e < 8; ++e) x[p][e] = 0;
            }
          }
#pragma unroll
          for (int e = 0; e < 8; ++e) {
            const float4 v =
                reinterpret_cast<const float4*>(weight)[(tap * 8 + e) * (in / 8) + k / 8];
#pragma unroll
            for (int p = 0; p < kPixels; ++p) {
              sum[p][0] = fmaf(x[p][e], v.x, sum[p][0]), sum[p][1] = fmaf(x[p][e], v.y, sum[p][1]);
              sum[p][2] = fmaf(x[p][e], v.z, sum[p][2]), sum[p][3] = fmaf(x[p][e], v.w, sum[p][3]);
            }
          }
        }
      }
    }
#pragma unroll
    for (int p = 0; p < kPixels; ++p) {
#pragma unroll
      for (int o = 0; o < kOutputs; ++o) {
        for (int d = kLanes / 2; d > 0; d /= 2)
          sum[p][o] += __shfl_xor_sync(0xffffffffU, sum[p][o], d);
      }
    }
    // Lane l writes output l % kOutputs of pixels l / kOutputs, ...
#pragma unroll
    for (int p = 0; p < kPixels; ++p) {
#pragma unroll
      for (int o = 0; o < kOutputs; ++o) {
        const bool writes = inside && lane == (p * kOutputs + o) % kLanes;
        if (!writes || o >= out || col + p >= c.out_w) continue;
        const float bias = a.bias.data != nullptr ? load1(a.bias.data, a.bias.dtype, o) : 0.0F;
        store1(a.y.data, a.y.dtype, (row * c.out_w + col + p) * out + o, sum[p][o] + bias);
      }
    }
  }
}

void allow_shared_memory(void (*kernel)(NarrowConvArgs)) {
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(kNarrowConvBytes)),
        "asking for shared memory");
}

}  // namespace

void launch_conv_few_inputs(const NarrowConvArgs& a, cudaStream_t stream) {
  const PlainConvArgs& c = a.conv;
  const auto bytes = static_cast<size_t>(c.kernel_h * c.kernel_w * c.in * c.out) * sizeof(float);
  const int64_t items = c.n * c.out_h * c.out_w * (c.out / 8);
  const unsigned blocks = std::min(num_blocks(items, kThreads), kMaxBlocks);
  allow_shared_memory(few_inputs_kernel);
  launch("conv2d, few inputs", few_inputs_kernel, blocks, kThreads, bytes, stream, a);
}

void launch_conv_few_outputs(const NarrowConvArgs& a, cudaStream_t stream) {
  const PlainConvArgs& c = a.conv;
  const auto bytes = static_cast<size_t>(c.kernel_h * c.kernel_w * c.in * kOutputs) * sizeof(float);
  const int64_t items = c.n * c.out_h * ((c.out_w + kPixels - 1) / kPixels) * kLanes;
  const unsigned blocks = std::min(num_blocks(items, kThreads), kMaxBlocks);
  void (*kernel)(NarrowConvArgs) = few_outputs_kernel<-1>;
  if (c.x.dtype == DType::kF16) kernel = few_outputs_kernel<static_cast<int>(DType::kF16)>;
  if (c.x.dtype == DType::kBF16) kernel = few_outputs_kernel<static_cast<int>(DType::kBF16)>;
  allow_shared_memory(kernel);
  launch("conv2d, few outputs", kernel, blocks, kThreads, bytes, stream, a);
}

}  // namespace halftone::backend::cuda
