// y = act(x W^T + bias) + residual for few rows of x (tokens of a prompt), 16 bits; the weight may
// be 8-bit codes with a scale for each output, y = act(scale * (x W^T) + bias) + residual. The
// weight's rows are the operand of 64 rows of the tensor cores and the tokens their columns, so a
// block reads each weight once and no product is spent on rows that do not exist; the terms are
// shared out between the blocks of a cluster, so that enough blocks read weights at once, or, of
// many outputs, the channels between all SMs, in 64s.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include <cuda.h>
#include <cuda_runtime.h>

#include "backend/cuda/hopper/gemm_args.h"

namespace halftone::backend::cuda::hopper {

inline constexpr int kMostTokens = 160;
inline constexpr int kFewTokensTerms = 64;  // of a stage of the ring
inline constexpr int kFewTokensStages = 16;

struct FewTokensArgs {
  CUtensorMap w;  // [n, k]
  CUtensorMap x;  // [m, k]
  void* y = nullptr;
  const void* residual = nullptr;  // null = absent, as bias
  const void* bias = nullptr;
  const float* scale = nullptr;  // [n], of codes
  int m = 0;
  int n = 0;
  int y_pitch = 0;  // elements
  int residual_pitch = 0;
  int steps = 0;  // of kFewTokensTerms
  int stages = 0;
  uint32_t partials = 0;  // offset of what other blocks send, behind the ring
  uint32_t barriers = 0;
  Element bias_element = Element::kF32;
  Activation activation = Activation::kNone;
  bool constant_weights = false;  // nothing in the stream writes them: they are read ahead
};

// One compiled kernel.
struct FewTokensKernel {
  Element element;
  std::optional<Element> codes;  // kS8 or kE4M3, the weight's; else it is as x
  int tokens;                    // of the tile; all of x's rows
  int warpgroups;                // of 64 output channels each
  int split;  // blocks of a cluster, which share the terms; 1: channels are shared out evenly
  int fewest_terms;  // below, what the blocks send each other takes longer than they save
  int stage_bytes;
  int staging_bytes;  // lies on the ring
  int partial_bytes;
  const void* function;

  [[nodiscard]] int channels() const { return 64 * warpgroups; }
  [[nodiscard]] int threads() const { return 128 * warpgroups + 32; }
  // "64x80 k3": channels, tokens, blocks that share the terms.
  [[nodiscard]] std::string name() const;
};

// All kernels, in a fixed order: of a type and tile the one of most blocks first.
[[nodiscard]] std::span<const FewTokensKernel> few_tokens_kernels();

struct FewTokensProblem {
  Element element = Element::kF16;
  std::optional<Element> codes;  // of the weight, else it is as x
  int m = 0;
  int n = 0;        // a multiple of 8, as k
  int k = 0;        // of codes a multiple of 16
  int x_pitch = 0;  // elements, multiples of 8
  int y_pitch = 0;
  int residual_pitch = 0;
  const void* x = nullptr;
  const void* weight = nullptr;  // [n, k], dense
  void* y = nullptr;
  const void* residual = nullptr;  // null = absent, as bias
  const void* bias = nullptr;
  Element bias_element = Element::kF32;
  const float* scale = nullptr;  // f32 [n], of codes
  Activation activation = Activation::kNone;
  bool constant_weight = false;
  int num_sms = 1;  // of the device
};

// How a kernel is launched for n outputs of k terms: as many stages as shared memory holds, or as a
// block has steps. Without a split as many blocks as SMs, or a multiple.
struct FewTokensLayout {
  FewTokensLayout(const FewTokensKernel& kernel, int n, int k, int num_sms);
  int clusters;
  int steps;  // of all blocks of a cluster together
  int stages;
  int partials;  // offsets
  int barriers;
  int shared_bytes;
};

// Clusters of a kernel that the device holds at once, with so much shared memory a block.
[[nodiscard]] int clusters_at_once(const FewTokensKernel& kernel, int shared_bytes);

// Of the kernels of the smallest tile that holds all rows and of the weight's type, the first for
// which the terms are enough and the device holds all clusters at once; if there is none, the last.
// A rule that figures with weights from memory led to, not a measurement, so its results have the
// same bits whenever a device computes them.
[[nodiscard]] const FewTokensKernel& choose_few_tokens(
    const FewTokensProblem& problem,
    const std::function<int(const FewTokensKernel&, int shared_bytes)>& at_once = clusters_at_once);

// A kernel bound to addresses, which are multiples of 16 bytes.
class FewTokens {
 public:
  FewTokens(const FewTokensKernel& kernel, const FewTokensProblem& problem);
  // May start before the previous kernel of the stream has ended (it waits inside).
  void launch(cudaStream_t stream) const;

 private:
  const FewTokensKernel* kernel_;
  FewTokensLayout layout_;
  FewTokensArgs args_;
};

}  // namespace halftone::backend::cuda::hopper
