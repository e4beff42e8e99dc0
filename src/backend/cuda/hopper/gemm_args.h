// What a kernel of the family is given; shared by host and device code.
#pragma once

#include <cstdint>

#include <cuda.h>

#include "backend/cuda/hopper/mma/element.h"
#include "backend/cuda/special_functions.h"

namespace halftone::backend::cuda::hopper {

// Columns of a row that one pair (mean, sum of squared deviations from it) describes.
inline constexpr int kStatisticsColumns = 80;

// Columns of a row for which there is a place in amax (graph/ops/quantize.h).
inline constexpr int kAmaxColumns = 80;

enum class Activation : uint8_t { kNone, kSilu, kGelu, kGeluTanh, kQuickGelu };

// y = act(acc * (row_scale[m] * column_scale[n]) + bias[n] + row_add[image(m), n]) + residual, then
// times 1 / y_scale and rounded where the output has 8 bits. Null = absent. Where x_statistics is
// given, x stands for its normalized rows: acc is replaced by (acc - mean[m] * column_sum[n]) *
// rsqrt(variance[m] + eps). Statistics are f32 [m, slots, 2], graph/ops/linear.h.
struct EpilogueArgs {
  const float* row_scale = nullptr;
  const float* column_scale = nullptr;
  const void* bias = nullptr;
  const void* row_add = nullptr;  // [images, n], dense
  const float* y_scale = nullptr;
  const float* x_statistics = nullptr;
  const float* column_sum = nullptr;
  float* y_statistics = nullptr;  // written: of y's rows as rounded
  float eps = 0.0f;
  int x_columns = 0;                  // elements of a row of x
  int row_scale_step = 0;             // 0: one scale; 1: one per row
  int rows_per_image = 1;             // a multiple of 64 where row_add or group_statistics is given
  float* group_statistics = nullptr;  // written: of y as rounded, graph/ops/group_norm.h
  int groups = 0;                     // of an image
  int group_columns = 1;
  uint32_t group_inverse = 0;  // 2^32 / group_columns, rounded up
  float* amax = nullptr;       // written: of y as rounded, graph/ops/quantize.h
  Element bias_element = Element::kF32;
  Element row_add_element = Element::kF32;
  Activation activation = Activation::kNone;
  bool residual = false;
};

// Where a sub-pixel convolution's results go: y [images, 2h, 2w, channels], the columns of parity
// (p, q) from (2p + q) * channels on. Null: to the map of y, as they come.
struct InterleaveArgs {
  void* y = nullptr;
  int h = 1;
  int w = 1;
  int channels = 1;  // a multiple of 16 bytes
};

// A convolution as a product: row m is output pixel m, K runs tap by tap.
struct ConvArgs {
  int out_w = 1;
  int pixels = 1;  // out_h * out_w
  int stride = 1;
  int pad = 0;  // before both axes
  int kernel_w = 1;
  int half_chunk = -1;  // of each tap: its second half is behind the last channel; -1: none
  InterleaveArgs interleave;
};

struct KernelArgs {
  CUtensorMap a;         // [m, k], or the input image in im2col form
  CUtensorMap b;         // [n, taps, channels]
  CUtensorMap y;         // [m, n]
  CUtensorMap residual;  // like y
  int m = 0;
  int n = 0;       // columns of the output
  int chunks = 0;  // of K, in each tap
  int taps = 1;
  bool constant_weights = false;  // no kernel before this one in the stream writes them
  EpilogueArgs epilogue;
  ConvArgs conv;
};

}  // namespace halftone::backend::cuda::hopper
