// Choosing, binding and launching the kernels for few tokens.
#include "backend/cuda/hopper/few_tokens.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "backend/cuda/error.h"
#include "backend/cuda/hopper/cluster_launch.h"
#include "backend/cuda/hopper/tensor_map.h"

namespace halftone::backend::cuda::hopper {
namespace {

constexpr int kSharedBytes = 227 * 1024;  // of a block at most
constexpr int kBarrierBytes = kFewTokensStages * 16 + 16;

constexpr int divide_up(int a, int b) { return (a + b - 1) / b; }

// Rows of k elements, `pitch` apart.
CUtensorMap rows_map(Element element, const void* data, int rows, int k, int pitch, int box_rows) {
  const int bytes = bytes_of(element);
  const std::array<uint64_t, 2> sizes = {static_cast<uint64_t>(k), static_cast<uint64_t>(rows)};
  const std::array<uint64_t, 1> pitches = {static_cast<uint64_t>(pitch) *
                                           static_cast<uint64_t>(bytes)};
  const std::array<uint32_t, 2> box = {kFewTokensTerms, static_cast<uint32_t>(box_rows)};
  return tiled_map(element, data, sizes, pitches, box, kFewTokensTerms * bytes);
}

// Clusters for n outputs: each a tile; of those that are blocks alone every SM has as many.
int clusters_of(const FewTokensKernel& kernel, int n, int num_sms) {
  if (kernel.split > 1) return divide_up(n, kernel.channels());
  const int parts = divide_up(n, 64);
  return std::min(parts, divide_up(parts, kernel.warpgroups * num_sms) * num_sms);
}

[[nodiscard]] ClusterLaunch launch_of(const FewTokensKernel& kernel, int clusters, int shared_bytes,
                                      cudaStream_t stream) {
  return {dim3(static_cast<unsigned>(clusters * kernel.split)), kernel.split, kernel.threads(),
          shared_bytes, stream};
}

void raise_shared_memory(const FewTokensKernel& kernel) {
  check(cudaFuncSetAttribute(kernel.function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             kSharedBytes),
        "raising a kernel's shared memory");
}

}  // namespace

std::string FewTokensKernel::name() const {
  return fmt::format("{}x{} k{}", channels(), tokens, split);
}

FewTokensLayout::FewTokensLayout(const FewTokensKernel& kernel, int n, int k, int num_sms)
    : clusters(clusters_of(kernel, n, num_sms)), steps(divide_up(k, kFewTokensTerms)) {
  const int room = (kSharedBytes - kernel.partial_bytes - kBarrierBytes) / kernel.stage_bytes;
  stages = std::clamp(std::min(room, divide_up(steps, kernel.split)), 2, kFewTokensStages);
  partials = std::max(stages * kernel.stage_bytes, kernel.staging_bytes);
  barriers = partials + kernel.partial_bytes;
  shared_bytes = barriers + kBarrierBytes;
}

int clusters_at_once(const FewTokensKernel& kernel, int shared_bytes) {
  raise_shared_memory(kernel);
  ClusterLaunch launch = launch_of(kernel, 1, shared_bytes, nullptr);
  launch.config.numAttrs = 1;  // the clusters' size
  int clusters = 0;
  check(cudaOccupancyMaxActiveClusters(&clusters, kernel.function, &launch.config),
        "counting clusters");
  return clusters;
}

const FewTokensKernel& choose_few_tokens(
    const FewTokensProblem& p,
    const std::function<int(const FewTokensKernel&, int shared_bytes)>& at_once) {
  const FewTokensKernel* chosen = nullptr;
  for (const FewTokensKernel& kernel : few_tokens_kernels()) {
    if (kernel.element != p.element || kernel.codes != p.codes || kernel.tokens < p.m) continue;
    if (chosen != nullptr && kernel.tokens != chosen->tokens) break;
    chosen = &kernel;
    if (p.k < kernel.fewest_terms) continue;
    const FewTokensLayout layout(kernel, p.n, p.k, p.num_sms);
    if (layout.clusters <= at_once(kernel, layout.shared_bytes)) break;
  }
  return *chosen;
}

FewTokens::FewTokens(const FewTokensKernel& kernel, const FewTokensProblem& p)
    : kernel_(&kernel), layout_(kernel, p.n, p.k, p.num_sms), args_{} {
  args_.w = rows_map(p.codes.value_or(p.element), p.weight, p.n, p.k, p.k,
                     kernel.split > 1 ? kernel.channels() : 64);
  args_.x = rows_map(p.element, p.x, p.m, p.k, p.x_pitch, kernel.tokens);
  args_.y = p.y;
  args_.residual = p.residual;
  args_.bias = p.bias;
  args_.bias_element = p.bias_element;
  args_.scale = p.scale;
  args_.m = p.m;
  args_.n = p.n;
  args_.y_pitch = p.y_pitch;
  args_.residual_pitch = p.residual_pitch;
  args_.activation = p.activation;
  args_.constant_weights = p.constant_weight;
  args_.steps = layout_.steps;
  args_.stages = layout_.stages;
  args_.partials = static_cast<uint32_t>(layout_.partials);
  args_.barriers = static_cast<uint32_t>(layout_.barriers);
  raise_shared_memory(kernel);
}

void FewTokens::launch(cudaStream_t stream) const {
  const ClusterLaunch launch = launch_of(*kernel_, layout_.clusters, layout_.shared_bytes, stream);
  void* arguments[] = {const_cast<FewTokensArgs*>(&args_)};
  check(cudaLaunchKernelExC(&launch.config, kernel_->function, arguments), "launching few tokens");
}

}  // namespace halftone::backend::cuda::hopper
