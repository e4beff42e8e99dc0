// Inner loops of our own kernels, one implementation an instruction set. Everything is f32 on
// contiguous memory of any length and alignment; kernels convert rows to f32, work, and convert
// back.
#pragma once

#include <cstdint>

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

struct VectorOps {
  // f32, f16 and bf16; rounds to nearest even.
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
  // y[c] += (x[c] - mean[c])^2
  void (*add_squares)(const float* x, const float* mean, float* y, int64_t n);
  // y = (x - mean[c]) * scale[c] + shift[c]
  void (*normalize_columns)(const float* x, const float* mean, const float* scale,
                            const float* shift, float* y, int64_t n);
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
};

// The best implementation that the device's features allow, or null.
[[nodiscard]] const VectorOps* vector_ops(const DeviceInfo& info);

[[nodiscard]] const VectorOps& vector_ops_avx2();
[[nodiscard]] const VectorOps& vector_ops_avx512();

}  // namespace halftone::backend::cpu
