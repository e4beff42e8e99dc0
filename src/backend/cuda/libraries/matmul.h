// One product of row-major matrices through cuBLASLt, with the fastest of its algorithms.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include <cuda_runtime.h>

#include "tensor/dtype.h"

namespace halftone::backend::cuda {

// y [rows, out] = x [rows, in] * weight [out, in]^T (or weight [in, out] when `weight_is_in_out`)
// + bias [out] + residual [rows, out]. x, weight, bias and residual have `dtype`; sums in f32, of
// i8 in i32. i8 gives y as i32, f8e4m3 as f32; both want multiples of 16 and no bias, residual or
// scale. Pitches in elements.
struct MatmulArgs {
  DType dtype = DType::kF32;
  DType y_dtype = DType::kF32;
  int64_t rows = 0, in = 0, out = 0;
  const void* x = nullptr;
  const void* weight = nullptr;
  const void* bias = nullptr;
  const void* residual = nullptr;  // pitch as y's
  void* y = nullptr;
  int64_t x_pitch = 0, weight_pitch = 0, y_pitch = 0;
  bool weight_is_in_out = false;
  float scale = 1;
  void* workspace = nullptr;
  size_t workspace_bytes = 0;
};

// Chooses an algorithm when constructed, by measuring on the given memory (whose y it overwrites)
// or from the tuning cache. Throws kUnsupported when the library has none.
class Matmul {
 public:
  explicit Matmul(const MatmulArgs& args);
  void enqueue(cudaStream_t stream) const;

 private:
  struct Bound;
  std::shared_ptr<const Bound> bound_;
};

}  // namespace halftone::backend::cuda
