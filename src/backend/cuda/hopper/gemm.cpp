#include "backend/cuda/hopper/gemm.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "halftone/error.h"

#include "backend/cuda/error.h"
#include "backend/cuda/hopper/cluster_launch.h"
#include "backend/cuda/hopper/instances.h"
#include "backend/cuda/hopper/tensor_map.h"

namespace halftone::backend::cuda::hopper {
namespace {

constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t kCopyAlignment = 16;  // of addresses and pitches, bytes

Form form_of(const GemmShape& shape) {
  if (shape.geglu) return Form::kGeglu;
  return shape.activated ? Form::kActivated : Form::kPlain;
}

int64_t chunk_elements(const GemmKernel& kernel) { return kernel.row_bytes / bytes_of(kernel.in); }

// Products that a convolution of fp8 adds up in the tensor cores alone: what their 13 bits lose
// grows with them (docs/numerics.md).
constexpr int64_t kMostUnpromoted = 5760;

// K steps of a tile.
int64_t steps_of(const GemmShape& s, const GemmKernel& kernel) {
  return divide_up(s.channels, chunk_elements(kernel)) * s.kernel_h * s.kernel_w;
}

bool serves(const GemmShape& shape, const GemmKernel& kernel) {
  return kernel.in == shape.in && kernel.out == shape.out && kernel.conv == shape.conv &&
         kernel.form == form_of(shape) && kernel.amax == shape.amax &&
         steps_of(shape, kernel) >= kernel.split &&
         (kernel.in != Element::kE4M3 || !kernel.conv || kernel.promotes ||
          shape.channels * shape.kernel_h * shape.kernel_w <= kMostUnpromoted) &&
         (!shape.row_statistics || kernel.out_n % kStatisticsColumns == 0) &&
         (shape.group_columns == 0 ||
          (kernel.measures_groups && kernel.out_n % shape.group_columns == 0));
}

CUtensorMap a_map(const GemmShape& s, const GemmKernel& kernel, const void* x) {
  const auto channels = static_cast<uint32_t>(chunk_elements(kernel));
  if (s.conv) {
    Im2colView view;
    view.n = static_cast<uint64_t>(s.images);
    view.h = static_cast<uint64_t>(s.in_h);
    view.w = static_cast<uint64_t>(s.in_w);
    view.c = static_cast<uint64_t>(s.channels);
    view.pixel_pitch = static_cast<uint64_t>(s.x_pitch);
    view.out_h = static_cast<uint64_t>(s.out_h);
    view.out_w = static_cast<uint64_t>(s.out_w);
    view.stride = static_cast<int>(s.stride);
    view.pad = static_cast<int>(s.pad);
    view.channels = channels;
    view.pixels = static_cast<uint32_t>(kernel.bm);
    return im2col_map(s.in, x, view, kernel.row_bytes);
  }
  const std::array<uint64_t, 2> sizes = {static_cast<uint64_t>(s.channels),
                                         static_cast<uint64_t>(s.m)};
  const std::array<uint64_t, 1> pitches = {static_cast<uint64_t>(s.x_pitch)};
  const std::array<uint32_t, 2> box = {channels, static_cast<uint32_t>(kernel.bm)};
  return tiled_map(s.in, x, sizes, pitches, box, kernel.row_bytes);
}

CUtensorMap b_map(const GemmShape& s, const GemmKernel& kernel, const void* weight) {
  const auto taps = static_cast<uint64_t>(s.kernel_h * s.kernel_w);
  const uint64_t tap_bytes = static_cast<uint64_t>(s.channels * bytes_of(s.in));
  const std::array<uint64_t, 3> sizes = {static_cast<uint64_t>(s.channels), taps,
                                         static_cast<uint64_t>(s.geglu ? 2 * s.n : s.n)};
  const std::array<uint64_t, 2> pitches = {tap_bytes, tap_bytes * taps};
  const std::array<uint32_t, 3> box = {static_cast<uint32_t>(chunk_elements(kernel)), 1,
                                       static_cast<uint32_t>(kernel.bn / 2)};
  return tiled_map(s.in, weight, sizes, pitches, box, kernel.row_bytes);
}

CUtensorMap y_map(const GemmShape& s, const GemmKernel& kernel, const void* y, int64_t pitch) {
  const std::array<uint64_t, 2> sizes = {static_cast<uint64_t>(s.n), static_cast<uint64_t>(s.m)};
  const std::array<uint64_t, 1> pitches = {static_cast<uint64_t>(pitch)};
  const std::array<uint32_t, 2> box = {
      static_cast<uint32_t>(kernel.panel_bytes / bytes_of(kernel.out)),
      static_cast<uint32_t>(64 / kernel.split)};
  const int swizzle = kernel.panel_bytes % 32 == 0 && kernel.panel_bytes <= 128 &&
                              (kernel.panel_bytes & (kernel.panel_bytes - 1)) == 0
                          ? kernel.panel_bytes
                          : 0;
  return tiled_map(s.out, y, sizes, pitches, box, swizzle);
}

bool is_aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % kCopyAlignment == 0; }

}  // namespace

std::string GemmKernel::name() const {
  return fmt::format("{}x{}x{} c{} {}{}{}", bm, bn, row_bytes, cluster,
                     ping_pong ? "ping-pong" : "cooperative",
                     split > 1 ? fmt::format(" k{}", split) : "", amax ? " amax" : "");
}

std::span<const GemmKernel> gemm_kernels() {
  static const std::vector<GemmKernel> kAll = [] {
    std::vector<GemmKernel> all;
    for (auto* part : kInstanceParts) {
      for (const GemmKernel& kernel : part()) all.push_back(kernel);
    }
    return all;
  }();
  return kAll;
}

std::string unsupported_reason(const GemmShape& s) {
  const int in = bytes_of(s.in);
  const int out = bytes_of(s.out);
  if (s.channels * in % kCopyAlignment != 0 || s.x_pitch % kCopyAlignment != 0) {
    return "rows of x or of the weight are no multiple of 16 bytes";
  }
  if (s.n * out % kCopyAlignment != 0 || s.y_pitch % kCopyAlignment != 0 ||
      (s.residual && s.residual_pitch % kCopyAlignment != 0)) {
    return "rows of y or of the residual are no multiple of 16 bytes";
  }
  if (s.residual && out == 1) return "no residual before a requantized output";
  if (s.residual && s.activated && in == 1) return "no residual behind an activation of codes";
  if (s.interleaved && s.n / 4 * out % kCopyAlignment != 0) {
    return "the channels of a parity are no multiple of 16 bytes";
  }
  if (s.conv && (s.stride > 8 || s.pad > 127 || s.kernel_h > 127 || s.kernel_w > 127)) {
    return "the convolution's window is too large";
  }
  if ((s.normalized || s.row_statistics) && (s.conv || in != 2 || out != 2)) {
    return "no row statistics in 8 bits";
  }
  if (s.row_statistics && form_of(s) != Form::kPlain) {
    return "no row statistics behind an activation";
  }
  // Eight columns that are read at once belong to two groups at most.
  if (s.group_columns != 0 && s.group_columns != 4 && s.group_columns < 8) {
    return "group statistics want groups of 4 or of at least 8 columns";
  }
  constexpr int64_t kLargest = int64_t{1} << 31;
  if (s.m >= kLargest || s.n >= kLargest / 2 || s.m < 1 || s.n < 1 || s.channels < 1) {
    return "empty or too large";
  }
  for (const GemmKernel& kernel : gemm_kernels()) {
    if (serves(s, kernel)) return {};
  }
  if (s.amax) return "amax: only of linears with 8-bit operands and 16-bit results, no activation";
  if (s.group_columns != 0) return "no kernel measures groups of so many columns of these types";
  return "no kernel was built for these types";
}

int half_chunk(const GemmShape& s, const GemmKernel& kernel) {
  const int64_t chunk = chunk_elements(kernel);
  const int64_t last = divide_up(s.channels, chunk) - 1;
  return 2 * (s.channels - last * chunk) <= chunk ? static_cast<int>(last) : -1;
}

double estimate_clocks(const GemmShape& s, const GemmKernel& kernel, int num_sms) {
  const double rows = static_cast<double>(divide_up(s.m, int64_t{kernel.bm} * kernel.cluster));
  const double columns = static_cast<double>(divide_up(s.n, kernel.out_n));
  const double blocks = rows * columns * kernel.cluster_blocks();
  const int usable_sms = num_sms / kernel.cluster_blocks() * kernel.cluster_blocks();
  const double waves = std::ceil(blocks / usable_sms);
  const auto steps = static_cast<double>(divide_up(steps_of(s, kernel), kernel.split));
  const double blocks_of_rows = kernel.bm / 64.0;
  // 32 bytes of K of a 64 x n block take the tensor cores n / 2 clocks; both operands are written
  // to shared memory once and read again for each of these products.
  const double tensor = kernel.row_bytes / 32.0 * blocks_of_rows * kernel.bn / 2.0;
  const double shared =
      kernel.row_bytes * (blocks_of_rows * (64 + kernel.bn) + kernel.bm + kernel.bn) / 128.0;
  constexpr double kL2BytesPerClock = 50.0;
  const double loaded =
      kernel.row_bytes * (kernel.bm + static_cast<double>(kernel.bn) / kernel.cluster);
  constexpr double kLeastStep = 250.0;
  const double main_loop =
      steps * std::max({tensor / 0.9, shared, loaded / kL2BytesPerClock, kLeastStep});
  // The consumers share the work of a tile's end, or one has it all.
  double epilogue = kernel.bm * kernel.bn / (kernel.ping_pong ? 12.0 : 24.0);
  // Half of the sums leave the block while as many come.
  if (kernel.split > 1) epilogue += 600.0 + kernel.bm * kernel.bn / 2.0 * 4.0 / 20.0;
  constexpr double kFixed = 2500.0;
  if (kernel.ping_pong && waves >= 2) {
    return waves * std::max(main_loop, (main_loop + epilogue) / 2) + epilogue + kFixed;
  }
  return waves * (main_loop + epilogue) + kFixed;
}

std::vector<uint16_t> candidates(const GemmShape& shape, int num_sms) {
  const std::span<const GemmKernel> all = gemm_kernels();
  std::vector<uint16_t> chosen;
  for (size_t i = 0; i < all.size(); ++i) {
    if (serves(shape, all[i])) chosen.push_back(static_cast<uint16_t>(i));
  }
  std::stable_sort(chosen.begin(), chosen.end(), [&](uint16_t a, uint16_t b) {
    return estimate_clocks(shape, all[a], num_sms) < estimate_clocks(shape, all[b], num_sms);
  });
  return chosen;
}

Gemm::Gemm(const GemmShape& shape, const GemmKernel& kernel, const GemmAddresses& addresses,
           const EpilogueArgs& epilogue, int num_sms)
    : kernel_(&kernel), args_{} {
  if (!is_aligned(addresses.x) || !is_aligned(addresses.weight) || !is_aligned(addresses.y) ||
      !is_aligned(addresses.residual)) {
    throw Error(Errc::kInternal, "cuda: a matrix operand is not aligned to 16 bytes");
  }
  args_.a = a_map(shape, kernel, addresses.x);
  args_.b = b_map(shape, kernel, addresses.weight);
  args_.y = y_map(shape, kernel, addresses.y, shape.y_pitch);
  args_.epilogue = epilogue;
  args_.epilogue.residual = addresses.residual != nullptr;
  args_.residual = args_.epilogue.residual
                       ? y_map(shape, kernel, addresses.residual, shape.residual_pitch)
                       : args_.y;
  args_.m = static_cast<int>(shape.m);
  args_.n = static_cast<int>(shape.n);
  args_.constant_weights = addresses.constant_weight;
  args_.chunks = static_cast<int>(divide_up(shape.channels, chunk_elements(kernel)));
  args_.taps = static_cast<int>(shape.kernel_h * shape.kernel_w);
  args_.conv.out_w = static_cast<int>(shape.out_w);
  args_.conv.pixels = static_cast<int>(shape.out_h * shape.out_w);
  args_.conv.stride = static_cast<int>(shape.stride);
  args_.conv.pad = static_cast<int>(shape.pad);
  args_.conv.kernel_w = static_cast<int>(shape.kernel_w);
  args_.conv.half_chunk = half_chunk(shape, kernel);
  if (shape.interleaved) {
    args_.conv.interleave = {addresses.y, static_cast<int>(shape.out_h - 1),
                             static_cast<int>(shape.out_w - 1), static_cast<int>(shape.n / 4)};
  }
  const int64_t clusters =
      divide_up(shape.m, int64_t{kernel.bm} * kernel.cluster) * divide_up(shape.n, kernel.out_n);
  const int cluster_blocks = kernel.cluster_blocks();
  blocks_ =
      static_cast<unsigned>(std::min<int64_t>(clusters, num_sms / cluster_blocks) * cluster_blocks);
  check(cudaFuncSetAttribute(kernel.function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             kernel.shared_bytes),
        "raising a kernel's shared memory");
}

void Gemm::launch(cudaStream_t stream, bool overlap) const {
  const ClusterLaunch launch(dim3(blocks_), kernel_->cluster_blocks(), kThreads,
                             kernel_->shared_bytes, stream, overlap && overlaps_launches());
  void* arguments[] = {const_cast<KernelArgs*>(&args_)};
  check(cudaLaunchKernelExC(&launch.config, kernel_->function, arguments),
        "launching a matrix kernel");
}

}  // namespace halftone::backend::cuda::hopper
