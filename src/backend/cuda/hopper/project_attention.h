// Attention over few keys with heads of 64 channels that computes its queries: q = x weight^T
// stays in registers. Host side.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "backend/cuda/hopper/attention.h"

namespace halftone::backend::cuda::hopper {

// The attention of q = round((x weight^T) * (row_scale * column_scale)), scales of 8-bit x only.
struct ProjectProblem {
  AttentionProblem attention;    // q: x, with its pitch; element: of q, k and v; at most kTextKeys
  Element in = Element::kF16;    // of x and the weight: `element`, or 8 bits
  int64_t channels = 0;          // of x; rows are multiples of 16 bytes
  const void* weight = nullptr;  // [heads * 64, channels]
  int64_t weight_pitch = 0;      // bytes, a multiple of 16
  const float* row_scale = nullptr;
  bool row_scales = false;  // one for each row of x; else one
  const float* column_scale = nullptr;
  bool constant_weight = false;  // nothing in the stream writes the weight: it is read ahead
};

struct ProjectArgs {
  AttentionKernelArgs base;  // q: x
  CUtensorMap b;             // the weight, [n, 1, channels]
  int n = 0;                 // heads * 64
  Element out = Element::kF16;
  int steps = 0;  // of K, 128 bytes each
  int queries = 0;
  const float* row_scale = nullptr;
  const float* column_scale = nullptr;
  int row_scale_step = 0;  // 0: one scale; 1: one per row
  bool constant_weights = false;
};

// One compiled kernel. A block has `rows` queries of an image and `heads` heads.
struct ProjectKernel {
  Element in;
  Element element;
  int rows;
  int heads;
  int cluster;  // blocks of neighbouring rows that share weights, keys and values
  int blocks;   // an SM
  int threads;
  int shared_bytes;
  const void* function;

  // "192x2 c2 b1": rows, heads, blocks of a cluster, blocks an SM.
  [[nodiscard]] std::string name() const;
};

// All kernels, in a fixed order.
[[nodiscard]] std::span<const ProjectKernel> project_kernels();
// Those that serve the problem.
[[nodiscard]] std::vector<const ProjectKernel*> project_candidates(const ProjectProblem& problem);

// A kernel bound to addresses, which are multiples of 16 bytes.
class ProjectAttention {
 public:
  ProjectAttention(const ProjectKernel& kernel, const ProjectProblem& problem);
  // May start before the previous kernel of the stream has ended (it waits inside).
  void launch(cudaStream_t stream) const;

 private:
  const ProjectKernel* kernel_;
  ProjectArgs args_;
  dim3 grid_;
};

}  // namespace halftone::backend::cuda::hopper
