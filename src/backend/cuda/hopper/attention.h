// Attention with heads of 64 channels, f16 or bf16: host side.
#pragma once

#include <cstdint>

#include <cuda.h>
#include <cuda_runtime.h>

#include "backend/cuda/hopper/mma/element.h"

namespace halftone::backend::cuda::hopper {

inline constexpr int kHeadDim = 64;

// Rows of q [batch, queries, heads * 64], k and v [batch, keys, ..], y like q; pitches in bytes,
// multiples of 16, as are the addresses.
struct AttentionProblem {
  Element element = Element::kF16;
  const void* q = nullptr;
  const void* k = nullptr;
  const void* v = nullptr;
  void* y = nullptr;
  int64_t batch = 0, queries = 0, keys = 0, heads = 0;
  int64_t q_pitch = 0, k_pitch = 0, v_pitch = 0, y_pitch = 0;
  float scale = 1;
};

struct AttentionKernelArgs {
  CUtensorMap q, k, v, y;  // [batch, rows, channels]
  int keys = 0;
  float scale_log2 = 0;  // of scores, for powers of two
};

class Attention {
 public:
  explicit Attention(const AttentionProblem& problem);
  void launch(cudaStream_t stream) const;

 private:
  AttentionKernelArgs args_;
  const void* kernel_ = nullptr;
  dim3 grid_;
};

}  // namespace halftone::backend::cuda::hopper
