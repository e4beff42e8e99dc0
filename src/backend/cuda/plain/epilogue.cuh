// Steps of the epilogue of a linear or convolution (EpilogueArgs) on kWidth neighbouring columns.
#pragma once

#include "backend/cuda/plain/device.cuh"

namespace halftone::backend::cuda {

// v += elements i.. of t, where it is given.
template <int kWidth>
__device__ __forceinline__ void add_columns(const Typed& t, int64_t i, float (&v)[kWidth]) {
  if (t.data == nullptr) return;
  float other[kWidth];
  load(t.data, t.dtype, i, other);
#pragma unroll
  for (int k = 0; k < kWidth; ++k) v[k] = __fadd_rn(v[k], other[k]);
}

// Bias and row add of columns `col`.. of `width`.
template <int kWidth>
__device__ __forceinline__ void add_bias(const EpilogueArgs& a, int64_t row, int64_t col,
                                         int64_t width, float (&v)[kWidth]) {
  add_columns(a.bias, col, v);
  add_columns(a.row_add, row / a.rows_per_batch * width + col, v);
}

template <int kWidth>
__device__ __forceinline__ void add_residual(const EpilogueArgs& a, int64_t row, int64_t col,
                                             float (&v)[kWidth]) {
  const int64_t residual_row = a.residual_rows > 0 ? row % a.residual_rows : row;
  add_columns(a.residual, residual_row * a.cols + col, v);
}

}  // namespace halftone::backend::cuda
