// Inner loops of our own kernels, one implementation an instruction set. Everything is f32 on
// contiguous memory of any length and alignment; kernels convert rows to f32, work, and convert
// back.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/simd/panels.h"
#include "graph/ops/op.h"

namespace halftone::backend {
struct DeviceInfo;
}

namespace halftone::backend::cpu {

// A register tile of a matrix product: c[rows][cols] (+)= sum over k of a[k * a_step + row] *
// b[k * cols + col]. `rows` of a call may be smaller than the tile's; cols is fixed.
struct TileProduct {
  int64_t rows;
  int64_t cols;
  // c has `cols` floats a row. With accumulate the products are added to c in order of k.
  void (*multiply)(const float* a, int64_t a_step, const float* b, int64_t k, float* c,
                   int64_t rows, bool accumulate);
  // The same with b in bf16.
  void (*multiply_bf16)(const float* a, int64_t a_step, const uint16_t* b, int64_t k, float* c,
                        int64_t rows, bool accumulate);
};

// What follows the sums of a panel (simd/panels.h), in the order and with the roundings of
// graph/ops/quantize.h. Index 1 is that of the gates of a geglu; pointers are absent when null and
// point at a column of the panel or, x_scale, at a row.
struct PanelFinish {
  bool integer = false;  // the sums are int32, else f32
  bool geglu = false;
  graph::Activation activation = graph::Activation::kNone;
  DType residual_type = DType::kF32;
  DType out = DType::kF32;  // f32, f16, bf16, i8 or f8e4m3
  float inverse = 1.0F;     // of the scale of a quantized output
  const float* x_scale = nullptr;
  int64_t x_scale_step = 0;  // 0: one for all rows
  const float* w_scale[2] = {};
  const float* bias[2] = {};
  const float* row_add[2] = {};
  const void* sums[2] = {};
  int64_t sums_pitch = 0;  // elements
  const std::byte* residual = nullptr;
  int64_t residual_pitch = 0;  // bytes
  std::byte* y = nullptr;
  int64_t y_pitch = 0;
  // Unless null, [3][32]: of every column a value, and sums of deviations from it and of their
  // squares, of the results as they are stored (floating, no geglu). `moments_begin`: the first of
  // these rows gives the value, and the sums begin anew; else they go on.
  float* moments = nullptr;
  bool moments_begin = false;

  // To the row `rows` further down.
  void advance(int64_t rows) {
    for (const void*& from : sums) {
      if (from != nullptr) from = static_cast<const float*>(from) + rows * sums_pitch;
    }
    if (x_scale != nullptr) x_scale += rows * x_scale_step;
    if (residual != nullptr) residual += rows * residual_pitch;
    y += rows * y_pitch;
  }
};
inline constexpr int64_t kMomentCols = kPanelCols;

// Finishes rows of `cols` results and advances to the row behind them; moments then go on. Sums and
// per-column values have room for whole vectors.
using FinishRows = void (*)(PanelFinish& finish, int64_t rows, int64_t cols);

// Rows of y = activation((x - mean[c]) * scale[c] + shift[c]), as f32, f16, bf16 or i8, i8 times
// `inverse`. Pitches are in bytes.
struct ColumnNorm {
  DType from = DType::kF32, to = DType::kF32;
  graph::Activation activation = graph::Activation::kNone;
  const float *mean = nullptr, *scale = nullptr, *shift = nullptr;
  float inverse = 1.0F;
  const std::byte* x = nullptr;
  int64_t x_pitch = 0;
  std::byte* y = nullptr;
  int64_t y_pitch = 0;
  int64_t rows = 0, n = 0;
};

struct VectorOps {
  // f32, f16, bf16, and f8e4m3 and i8 as their plain values; store rounds to nearest even and takes
  // f32, f16 and bf16.
  void (*load)(DType from, const void* x, float* y, int64_t n);
  void (*store)(const float* x, DType to, void* y, int64_t n);

  void (*activate)(graph::Activation activation, const float* x, float* y, int64_t n);
  void (*affine)(const float* x, float scale, float shift, float low, float high, float* y,
                 int64_t n);
  void (*add)(const float* a, const float* b, float* y, int64_t n);
  // y += factor * x
  void (*multiply_add)(float factor, const float* x, float* y, int64_t n);
  // y = a + factor * (b - a)
  void (*blend)(const float* a, const float* b, float factor, float* y, int64_t n);
  // y = a * gelu(b)
  void (*multiply_gelu)(const float* a, const float* b, float* y, int64_t n);

  float (*sum)(const float* x, int64_t n);
  // sum of (x - mean)^2
  float (*squares)(const float* x, float mean, int64_t n);
  // Of n columns over `rows` rows, `pitch` bytes apart: sums[c] = sum of d, squares[c] = sum of
  // d^2, d = x - shift[c]. Every sum is over rows in order.
  void (*column_moments)(DType from, const std::byte* x, int64_t pitch, int64_t rows, int64_t n,
                         const float* shift, float* sums, float* squares);
  void (*normalize_columns)(const ColumnNorm& norm);
  // y = (x - mean) * inverse * gamma[c] + beta[c]
  void (*normalize_row)(const float* x, float mean, float inverse, const float* gamma,
                        const float* beta, float* y, int64_t n);

  // y[c * y_step + r] = x[r * x_step + c]
  void (*transpose)(const float* x, int64_t x_step, int64_t rows, int64_t cols, float* y,
                    int64_t y_step);

  TileProduct matrix_tile;     // for linear: wide in rows
  TileProduct attention_tile;  // its rows divide every usual head width

  // One step of an online softmax over scores[keys][attention_tile.cols], a column a query: updates
  // the running maximum and sum, turns scores into weights, and gives the factor by which what was
  // summed before shrinks.
  void (*softmax_step)(float* scores, int64_t keys, float* maximum, float* sum, float* shrink);
  // x[rows][attention_tile.cols]: multiplies every row elementwise by factors.
  void (*scale_columns)(float* x, int64_t rows, const float* factors);

  // max |x|; NaN is passed over.
  float (*largest)(const float* x, int64_t n);
  // y = clamp(rne(x * inverse) + zero, low, high)
  void (*quantize)(const float* x, float inverse, float zero, float low, float high, int8_t* y,
                   int64_t n);
  // y = x * inverse as f8e4m3, rounded to nearest even and saturating; NaN stays.
  void (*quantize_f8)(const float* x, float inverse, uint8_t* y, int64_t n);
  void (*multiply)(const float* a, const float* b, float* y, int64_t n);
  // Integers of 2 or 4 bits: with n = 8 / bits parts, y[p * (count / n) + i] is field p of byte i.
  void (*unpack)(const std::byte* x, int64_t bits, int8_t* y, int64_t count);
  // y = x as bf16
  void (*widen_to_bf16)(const int8_t* x, uint16_t* y, int64_t n);
  // The code for all that share a finish's types, geglu and whether moments are summed.
  FinishRows (*finisher)(const PanelFinish& finish);
  // The same for whole panels of 32 columns where x_scale, w_scale, bias and row_add are present.
  FinishRows (*whole_finisher)(const PanelFinish& finish, bool has_residual);
};

// The best implementation that the device's features allow and this processor can run, or null.
[[nodiscard]] const VectorOps* vector_ops(const DeviceInfo& info);

[[nodiscard]] const VectorOps& vector_ops_avx2();
[[nodiscard]] const VectorOps& vector_ops_avx512();
[[nodiscard]] const VectorOps& vector_ops_avx512_bf16();

}  // namespace halftone::backend::cpu
