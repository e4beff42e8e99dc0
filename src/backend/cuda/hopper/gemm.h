// Host side of the kernel family: which kernels exist, which serve a problem, and their launches.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include <cuda_runtime.h>

#include "backend/cuda/hopper/gemm_args.h"
#include "backend/cuda/hopper/tile.h"

namespace halftone::backend::cuda::hopper {

// A linear or convolution by shape and types alone.
struct GemmShape {
  Element in = Element::kF16;
  Element out = Element::kF16;
  bool conv = false;
  bool geglu = false;  // the weight has 2 * n rows
  bool activated = false;
  bool residual = false;
  bool normalized = false;      // x stands for its normalized rows
  bool row_statistics = false;  // y's rows are described
  bool amax = false;            // y's largest magnitudes are taken
  int64_t group_columns = 0;    // y's groups of so many columns are described; 0: they are not
  int64_t m = 0;                // rows of y, all images together
  int64_t n = 0;                // columns of y
  int64_t channels = 0;         // k = channels * kernel_h * kernel_w
  // Convolutions only.
  int64_t images = 1;
  int64_t in_h = 1;
  int64_t in_w = 1;
  int64_t out_h = 1;
  int64_t out_w = 1;
  int64_t kernel_h = 1;
  int64_t kernel_w = 1;
  int64_t stride = 1;
  int64_t pad = 0;           // before both axes
  bool interleaved = false;  // y is [images, 2 (out_h - 1), 2 (out_w - 1), n / 4]
  int64_t x_pitch = 0;       // bytes between rows (pixels) of x, y, residual
  int64_t y_pitch = 0;
  int64_t residual_pitch = 0;
};

struct GemmAddresses {
  const void* x = nullptr;
  const void* weight = nullptr;
  void* y = nullptr;
  const void* residual = nullptr;
  bool constant_weight = false;  // nothing in the stream writes the weight: it is read ahead
};

// One compiled kernel.
struct GemmKernel {
  Element in;
  Element out;
  Form form;
  bool conv;
  int bm;
  int bn;
  int row_bytes;
  int cluster;
  int split;
  bool ping_pong;
  int out_n;
  int panel_bytes;
  int shared_bytes;
  const void* function;
  bool measures_groups;
  bool amax;
  bool promotes;  // adds up partial sums of fp8 in fp32

  [[nodiscard]] int cluster_blocks() const { return cluster * split; }
  // "128x160x128 c2 ping-pong"; " k2" behind it: two blocks divide the terms; " amax".
  [[nodiscard]] std::string name() const;
};

template <class T>
[[nodiscard]] constexpr GemmKernel describe(const void* function, bool measures_groups) {
  return {T::kIn,   T::kOut,        T::kForm,        T::kConv,  T::kBm,
          T::kBn,   T::kRowBytes,   T::kCluster,     T::kSplit, T::kPingPong,
          T::kOutN, T::kPanelBytes, T::kSharedBytes, function,  measures_groups,
          T::kAmax, T::kPromote > 0};
}

// All kernels, in a fixed order.
[[nodiscard]] std::span<const GemmKernel> gemm_kernels();

// Empty when some kernel serves the shape, else why none does.
[[nodiscard]] std::string unsupported_reason(const GemmShape& shape);

// Indices into gemm_kernels() of the kernels that serve the shape, the fastest by estimate first.
[[nodiscard]] std::vector<uint16_t> candidates(const GemmShape& shape, int num_sms);
// The index of a tap's last chunk where the channels end within its first half, else -1.
[[nodiscard]] int half_chunk(const GemmShape& shape, const GemmKernel& kernel);
// Clocks that the kernel should take.
[[nodiscard]] double estimate_clocks(const GemmShape& shape, const GemmKernel& kernel, int num_sms);

// A kernel bound to addresses; describes them to the copy engine once.
class Gemm {
 public:
  // `epilogue.residual` follows from the addresses.
  Gemm(const GemmShape& shape, const GemmKernel& kernel, const GemmAddresses& addresses,
       const EpilogueArgs& epilogue, int num_sms);
  // `overlap`: may start before the previous kernel of the stream has ended (it waits inside).
  void launch(cudaStream_t stream, bool overlap = false) const;

 private:
  const GemmKernel* kernel_;
  KernelArgs args_;
  unsigned blocks_;
};

}  // namespace halftone::backend::cuda::hopper
