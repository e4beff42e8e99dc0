// The first and last convolution of a network on the tensor cores, for 16-bit operands: products of
// 16 pixels by 8 outputs by 16 terms, sums in f32.
#include <algorithm>

#include "backend/cuda/launch.h"
#include "backend/cuda/plain/device.cuh"
#include "backend/cuda/plain/mma.cuh"
#include "backend/cuda/plain/overlap.cuh"

namespace halftone::backend::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kTerms = 16;  // of a product

__device__ __forceinline__ uint32_t word_at(const uint16_t* p) {
  return *reinterpret_cast<const uint32_t*>(p);
}

// --- few inputs: the terms of a pixel are gathered into a row of shared memory

constexpr int kPixels = 16 * kWarps;  // of a tile

// Rows of `kSteps` products' terms and eight more elements: rows g of eight threads then begin four
// banks apart.
constexpr int pitch_of(int steps) { return steps * kTerms + 8; }

// A row of the weights in shared memory is the output that a thread wants next to its others: of 32
// outputs, thread t has 8t to 8t + 7, two of each of four products.
__device__ __forceinline__ int output_of(int row) {
  return row / 32 * 32 + row % 8 / 2 * 8 + row % 32 / 8 * 2 + row % 2;
}

// The rows of `out` outputs from `first` on, four elements at a time where rows are whole quarters
// of them.
template <int kRow, int kPitch>
__device__ __forceinline__ void read_weights(const NarrowConvArgs& a, int terms, int first, int out,
                                             uint16_t* weights) {
  const auto* from = static_cast<const uint16_t*>(a.conv.weight.data) + first * terms;
  const int width = terms % 4 == 0 ? 4 : 1;
  for (int i = static_cast<int>(threadIdx.x); i < out * kRow / width; i += kThreads) {
    const int row = i * width / kRow;
    const int term = i * width - row * kRow;
    uint16_t* to = weights + row * kPitch + term;
    const uint16_t* at = from + output_of(row) * terms + term;
    if (width == 4) {
      *reinterpret_cast<uint2*>(to) =
          term < terms ? *reinterpret_cast<const uint2*>(at) : make_uint2(0, 0);
    } else {
      *to = term < terms ? *at : uint16_t{0};
    }
  }
}

// The terms of the tile's pixels; two threads a pixel take its taps in turn.
template <int kRow, int kPitch>
__device__ __forceinline__ void gather(const PlainConvArgs& c, int64_t tile, int total, int terms,
                                       uint16_t* patches) {
  const auto* x = static_cast<const uint16_t*>(c.x.data);
  const auto in = static_cast<int>(c.in);
  const auto kernel_w = static_cast<int>(c.kernel_w);
  const int taps = static_cast<int>(c.kernel_h) * kernel_w;
  const int row = static_cast<int>(threadIdx.x) / 2;
  const int pixel = static_cast<int>(tile) * kPixels + row;
  const int line = pixel / static_cast<int>(c.out_w);
  const int n = line / static_cast<int>(c.out_h);
  const auto top = static_cast<int>((line - n * c.out_h) * c.stride - c.pad);
  const auto left = static_cast<int>((pixel - line * c.out_w) * c.stride - c.pad);
  for (int tap = static_cast<int>(threadIdx.x) % 2; tap < taps; tap += 2) {
    const int r = tap / kernel_w;
    const int h = top + r;
    const int w = left + tap - r * kernel_w;
    const bool inside = pixel < total && h >= 0 && h < c.h && w >= 0 && w < c.w;
    const uint16_t* from = x + (inside ? ((n * c.h + h) * c.w + w) * in : 0);
    uint16_t* to = patches + row * kPitch + tap * in;
    if (in == 4) {
      *reinterpret_cast<uint2*>(to) =
          inside ? *reinterpret_cast<const uint2*>(from) : make_uint2(0, 0);
    } else {
      for (int k = 0; k < in; ++k) to[k] = inside ? from[k] : uint16_t{0};
    }
  }
  for (int term = terms + static_cast<int>(threadIdx.x) % 2; term < kRow; term += 2) {
    patches[row * kPitch + term] = 0;
  }
}

template <DType kType, int kSteps>
__global__ void __launch_bounds__(kThreads)
    few_inputs_mma_kernel(const __grid_constant__ NarrowConvArgs a, int outputs) {
  follow_previous_kernel();
  constexpr int kRow = kSteps * kTerms;
  constexpr int kPitch = pitch_of(kSteps);
  extern __shared__ __align__(16) uint16_t shared[];
  uint16_t* patches = shared;                     // [kPixels][kPitch]
  uint16_t* weights = shared + kPixels * kPitch;  // [outputs][kPitch]
  const PlainConvArgs& c = a.conv;
  const auto all_outputs = static_cast<int>(c.out);
  const int first_output = static_cast<int>(blockIdx.y) * outputs;
  const int out = min(outputs, all_outputs - first_output);
  const auto terms = static_cast<int>(c.kernel_h * c.kernel_w * c.in);
  const int thread = static_cast<int>(threadIdx.x);
  read_weights<kRow, kPitch>(a, terms, first_output, out, weights);
  const int g = thread % 32 / 4;
  const int t = thread % 4;
  const auto total = static_cast<int>(c.n * c.out_h * c.out_w);
  for (int64_t tile = blockIdx.x; tile * kPixels < total; tile += gridDim.x) {
    gather<kRow, kPitch>(c, tile, total, terms, patches);
    __syncthreads();
    const int first = thread / 32 * 16;  // of the warp's pixels
    uint32_t pixels[kSteps][4];
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      const uint16_t* at = patches + (first + g) * kPitch + s * kTerms + 2 * t;
      pixels[s][0] = word_at(at);
      pixels[s][1] = word_at(at + 8 * kPitch);
      pixels[s][2] = word_at(at + 8);
      pixels[s][3] = word_at(at + 8 * kPitch + 8);
    }
    for (int begin = 0; begin < out; begin += 32) {
      float bias[8] = {};
      const int output = first_output + begin + 8 * t;
      if (a.bias.data != nullptr) load(a.bias.data, a.bias.dtype, output, bias);
      float upper[8];
      float lower[8];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        float d[4] = {bias[2 * j], bias[2 * j + 1], bias[2 * j], bias[2 * j + 1]};
#pragma unroll
        for (int s = 0; s < kSteps; ++s) {
          const uint16_t* at = weights + (begin + 8 * j + g) * kPitch + s * kTerms + 2 * t;
          multiply<kType>(d, pixels[s], word_at(at), word_at(at + 8));
        }
        upper[2 * j] = d[0], upper[2 * j + 1] = d[1];
        lower[2 * j] = d[2], lower[2 * j + 1] = d[3];
      }
      const int64_t pixel = tile * kPixels + first + g;
      if (pixel < total) store(a.y.data, a.y.dtype, pixel * all_outputs + output, upper);
      if (pixel + 8 < total) store(a.y.data, a.y.dtype, (pixel + 8) * all_outputs + output, lower);
    }
    __syncthreads();
  }
}

// --- few outputs of 3x3, stride 1: a tile of pixels with what surrounds it, 64 channels at a time
//
// A column of the product is an output at a tap, so a pixel with its neighbours is read from shared
// memory once, not once a tap: Z[pixel][tap, output] = sum over channels of x w, and then y[pixel]
// is the sum over taps of Z at the pixel's neighbours.

constexpr int kOutputThreads = 128;
constexpr int kOutputWarps = kOutputThreads / 32;
constexpr int kTileRows = 8, kTileCols = 16;  // of pixels, one a thread
constexpr int kHaloCols = kTileCols + 2;
constexpr int kHalo = (kTileRows + 2) * kHaloCols;
constexpr int kSixteens = 3;  // of pixels with their surroundings, that a warp multiplies
constexpr int kChunk = 64;    // channels, 128 bytes a pixel
constexpr int kTaps = 9;
// Of the columns of Z, f32: threads that store two columns of eight pixels hit different banks.
constexpr int kProductPitch = 196;
static_assert(kTileRows * kTileCols == kOutputThreads);
static_assert(kSixteens * 16 * kOutputWarps >= kHalo &&
              kSixteens * 16 * kOutputWarps <= kProductPitch);

constexpr int groups_of(int outputs) { return (kTaps * outputs + 7) / 8; }  // of eight columns
static_assert(groups_of(kNarrowConvOutputs) * 8 * kProductPitch * sizeof(float) <=
              2 * kHalo * kChunk * sizeof(uint16_t));

// Offset in elements of 8 channels of a pixel: eight neighbours' lie in different banks.
__device__ __forceinline__ int halo_at(int pixel, int part) {
  return pixel * kChunk + ((part ^ pixel) & 7) * 8;
}

struct OutputTile {
  int64_t n;
  int h, w;  // of the first pixel
};

__device__ __forceinline__ OutputTile tile_at(const PlainConvArgs& c, int64_t tile) {
  const int64_t across = (c.out_w + kTileCols - 1) / kTileCols;
  const int64_t down = (c.out_h + kTileRows - 1) / kTileRows;
  const int64_t line = tile / across;
  return {line / down, static_cast<int>(line % down) * kTileRows,
          static_cast<int>(tile - line * across) * kTileCols};
}

// Starts the copies of channels [channel, channel + 64) of a tile's pixels; zeros beyond the image.
__device__ __forceinline__ void copy_chunk(const PlainConvArgs& c, const OutputTile& tile,
                                           int channel, uint16_t* halo) {
  const auto height = static_cast<int>(c.h);
  const auto width = static_cast<int>(c.w);
  const auto pad = static_cast<int>(c.pad);
  const auto* x = static_cast<const uint16_t*>(c.x.data) + tile.n * c.h * c.w * c.in + channel;
  for (int i = static_cast<int>(threadIdx.x); i < kHalo * 8; i += kOutputThreads) {
    const int pixel = i / 8;
    const int part = i % 8;
    const int h = tile.h - pad + pixel / kHaloCols;
    const int w = tile.w - pad + pixel % kHaloCols;
    const bool inside = h >= 0 && h < height && w >= 0 && w < width;
    const int64_t from = inside ? (int64_t{h} * width + w) * c.in + part * 8 : 0;
    copy_async(halo + halo_at(pixel, part), x + from, inside);
  }
  commit_copies();
}

// Weights [tap, output] in rows of `pitch` elements, zeros behind the last up to whole groups.
template <int kGroups>
__device__ __forceinline__ void read_columns(const PlainConvArgs& c, int pitch, uint16_t* weights) {
  const auto in = static_cast<int>(c.in);
  const auto out = static_cast<int>(c.out);
  const int parts = in / 8;
  for (int i = static_cast<int>(threadIdx.x); i < kGroups * 8 * parts; i += kOutputThreads) {
    const int column = i / parts;
    const int channel = (i - column * parts) * 8;
    const int tap = column / out;
    const int64_t row = int64_t{column - tap * out} * kTaps + tap;
    const auto* from = static_cast<const uint16_t*>(c.weight.data) + row * in + channel;
    *reinterpret_cast<uint4*>(weights + column * pitch + channel) =
        tap < kTaps ? *reinterpret_cast<const uint4*>(from) : make_uint4(0, 0, 0, 0);
  }
}

// The products of one chunk for the warp's pixels.
template <DType kType, int kGroups>
__device__ __forceinline__ void multiply_chunk(const uint16_t* halo, const uint16_t* weights,
                                               int pitch, float (&sums)[kSixteens][kGroups][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const uint16_t* mine = weights + lane / 4 * pitch + lane % 4 * 2;
#pragma unroll
  for (int k = 0; k < kChunk / kTerms; ++k) {
    uint32_t columns[kGroups][2];
#pragma unroll
    for (int j = 0; j < kGroups; ++j) {
      columns[j][0] = word_at(mine + 8 * j * pitch + k * kTerms);
      columns[j][1] = word_at(mine + 8 * j * pitch + k * kTerms + 8);
    }
#pragma unroll
    for (int m = 0; m < kSixteens; ++m) {
      // Rows beyond the last pixel repeat it; nobody reads their results.
      const int pixel = min((warp + m * kOutputWarps) * 16 + lane % 16, kHalo - 1);
      uint32_t pixels[4];
      load_matrices(halo + halo_at(pixel, 2 * k + lane / 16), pixels);
#pragma unroll
      for (int j = 0; j < kGroups; ++j) {
        multiply<kType>(sums[m][j], pixels, columns[j][0], columns[j][1]);
      }
    }
  }
}

template <int kGroups>
__device__ __forceinline__ void store_products(const float (&sums)[kSixteens][kGroups][4],
                                               float* products) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
  for (int m = 0; m < kSixteens; ++m) {
#pragma unroll
    for (int j = 0; j < kGroups; ++j) {
      float* at = products + (8 * j + lane % 4 * 2) * kProductPitch +
                  (warp + m * kOutputWarps) * 16 + lane / 4;
      at[0] = sums[m][j][0];
      at[kProductPitch] = sums[m][j][1];
      at[8] = sums[m][j][2];
      at[kProductPitch + 8] = sums[m][j][3];
    }
  }
}

// The thread's pixel: the sum over taps, in order.
__device__ __forceinline__ void store_pixel(const NarrowConvArgs& a, const OutputTile& tile,
                                            const float* products) {
  const PlainConvArgs& c = a.conv;
  const auto out = static_cast<int>(c.out);
  const int row = static_cast<int>(threadIdx.x) / kTileCols;
  const int col = static_cast<int>(threadIdx.x) % kTileCols;
  if (tile.h + row >= c.out_h || tile.w + col >= c.out_w) return;
  const int64_t pixel = (tile.n * c.out_h + tile.h + row) * c.out_w + tile.w + col;
  for (int o = 0; o < out; ++o) {
    float sum = 0.0F;
#pragma unroll
    for (int tap = 0; tap < kTaps; ++tap) {
      sum +=
          products[(tap * out + o) * kProductPitch + (row + tap / 3) * kHaloCols + col + tap % 3];
    }
    const float bias = a.bias.data != nullptr ? load1(a.bias.data, a.bias.dtype, o) : 0.0F;
    store1(a.y.data, a.y.dtype, pixel * out + o, sum + bias);
  }
}

template <DType kType, int kGroups>
__global__ void __launch_bounds__(kOutputThreads)
    few_outputs_mma_kernel(const __grid_constant__ NarrowConvArgs a, int64_t tiles) {
  follow_previous_kernel();
  extern __shared__ __align__(16) uint16_t shared[];
  uint16_t* halo = shared;                          // two of [kHalo][kChunk]; then the products
  uint16_t* weights = shared + 2 * kHalo * kChunk;  // [8 kGroups][pitch]
  auto* products = reinterpret_cast<float*>(shared);
  const PlainConvArgs& c = a.conv;
  const auto in = static_cast<int>(c.in);
  const int pitch = in + 8;
  read_columns<kGroups>(c, pitch, weights);
  for (int64_t at = blockIdx.x; at < tiles; at += gridDim.x) {
    const OutputTile tile = tile_at(c, at);
    float sums[kSixteens][kGroups][4] = {};
    copy_chunk(c, tile, 0, halo);
    for (int channel = 0, half = 0; channel < in; channel += kChunk, half ^= 1) {
      if (channel + kChunk < in) {
        copy_chunk(c, tile, channel + kChunk, halo + (half ^ 1) * kHalo * kChunk);
        wait_for_copies<1>();
      } else {
        wait_for_copies<0>();
      }
      __syncthreads();
      multiply_chunk<kType, kGroups>(halo + half * kHalo * kChunk, weights + channel, pitch, sums);
      __syncthreads();
    }
    store_products(sums, products);
    __syncthreads();
    store_pixel(a, tile, products);
    __syncthreads();
  }
}

void allow_shared_memory(const void* kernel, size_t bytes) {
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(bytes)),
        "asking for shared memory");
}

constexpr unsigned kMaxBlocks = 132 * 4;  // each reads all weights first

template <DType kType, int kSteps>
void launch_few_inputs(const NarrowConvArgs& a, cudaStream_t stream) {
  const int64_t tiles = (a.conv.n * a.conv.out_h * a.conv.out_w + kPixels - 1) / kPixels;
  const int64_t blocks = std::min<int64_t>(tiles, kMaxBlocks);
  // Small images: the outputs are shared out too, 32 at least, until there is a block for each SM.
  constexpr int64_t kSms = 132;
  constexpr int64_t kFewest = 32;
  const int64_t most_parts = (kSms + blocks - 1) / std::max<int64_t>(blocks, 1);
  const int64_t steps = (a.conv.out + kFewest - 1) / kFewest;
  const int64_t outputs = (steps + most_parts - 1) / most_parts * kFewest;
  const dim3 grid(static_cast<unsigned>(blocks),
                  static_cast<unsigned>((a.conv.out + outputs - 1) / outputs));
  const size_t bytes = few_inputs_mma_bytes(kSteps * kTerms, outputs);
  allow_shared_memory(reinterpret_cast<const void*>(few_inputs_mma_kernel<kType, kSteps>), bytes);
  launch("conv2d, few inputs", few_inputs_mma_kernel<kType, kSteps>, grid, kThreads, bytes, stream,
         a, static_cast<int>(outputs));
}

template <DType kType>
void launch_few_inputs(const NarrowConvArgs& a, cudaStream_t stream) {
  const PlainConvArgs& c = a.conv;
  switch ((c.kernel_h * c.kernel_w * c.in + kTerms - 1) / kTerms) {
    case 1:
      return launch_few_inputs<kType, 1>(a, stream);
    case 2:
      return launch_few_inputs<kType, 2>(a, stream);
    case 3:
      return launch_few_inputs<kType, 3>(a, stream);
    case 4:
      return launch_few_inputs<kType, 4>(a, stream);
    default:
      return launch_few_inputs<kType, 5>(a, stream);
  }
}

template <DType kType, int kOutputs>
void launch_few_outputs(const NarrowConvArgs& a, cudaStream_t stream) {
  const PlainConvArgs& c = a.conv;
  constexpr int kGroups = groups_of(kOutputs);
  const size_t bytes =
      (2 * kHalo * kChunk + static_cast<size_t>(kGroups * 8 * (c.in + 8))) * sizeof(uint16_t);
  const int64_t tiles =
      c.n * ((c.out_h + kTileRows - 1) / kTileRows) * ((c.out_w + kTileCols - 1) / kTileCols);
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(tiles, kMaxBlocks));
  allow_shared_memory(reinterpret_cast<const void*>(few_outputs_mma_kernel<kType, kGroups>), bytes);
  launch("conv2d, few outputs", few_outputs_mma_kernel<kType, kGroups>, blocks, kOutputThreads,
         bytes, stream, a, tiles);
}

template <DType kType>
void launch_few_outputs(const NarrowConvArgs& a, cudaStream_t stream) {
  static_assert(kNarrowConvOutputs == 4);
  switch (a.conv.out) {
    case 1:
      return launch_few_outputs<kType, 1>(a, stream);
    case 2:
      return launch_few_outputs<kType, 2>(a, stream);
    case 3:
      return launch_few_outputs<kType, 3>(a, stream);
    default:
      return launch_few_outputs<kType, 4>(a, stream);
  }
}

}  // namespace

void launch_conv_few_inputs_mma(const NarrowConvArgs& a, cudaStream_t stream) {
  if (a.conv.x.dtype == DType::kF16) {
    launch_few_inputs<DType::kF16>(a, stream);
  } else {
    launch_few_inputs<DType::kBF16>(a, stream);
  }
}

void launch_conv_few_outputs_mma(const NarrowConvArgs& a, cudaStream_t stream) {
  if (a.conv.x.dtype == DType::kF16) {
    launch_few_outputs<DType::kF16>(a, stream);
  } else {
    launch_few_outputs<DType::kBF16>(a, stream);
  }
}

}  // namespace halftone::backend::cuda
