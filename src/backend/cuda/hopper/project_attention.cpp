#include "backend/cuda/hopper/project_attention.h"

#include <array>

#include <fmt/format.h>

#include "backend/cuda/error.h"
#include "backend/cuda/hopper/cluster_launch.h"
#include "backend/cuda/hopper/gemm_args.h"
#include "backend/cuda/hopper/instances.h"
#include "backend/cuda/hopper/tensor_map.h"

namespace halftone::backend::cuda::hopper {
namespace {

constexpr int kStepBytes = 128;  // of K

CUtensorMap x_map(const ProjectProblem& p, const ProjectKernel& kernel) {
  const AttentionProblem& a = p.attention;
  const std::array<uint64_t, 3> sizes = {static_cast<uint64_t>(p.channels),
                                         static_cast<uint64_t>(a.queries),
                                         static_cast<uint64_t>(a.batch)};
  const std::array<uint64_t, 2> pitches = {static_cast<uint64_t>(a.q_pitch),
                                           static_cast<uint64_t>(a.q_pitch * a.queries)};
  const std::array<uint32_t, 3> box = {static_cast<uint32_t>(kStepBytes / bytes_of(p.in)),
                                       static_cast<uint32_t>(kernel.rows), 1};
  return tiled_map(p.in, a.q, sizes, pitches, box, kStepBytes);
}

CUtensorMap weight_map(const ProjectProblem& p, const ProjectKernel& kernel) {
  const auto pitch = static_cast<uint64_t>(p.weight_pitch);
  const std::array<uint64_t, 3> sizes = {static_cast<uint64_t>(p.channels), 1,
                                         static_cast<uint64_t>(p.attention.heads * kHeadDim)};
  const std::array<uint64_t, 2> pitches = {pitch, pitch};
  const std::array<uint32_t, 3> box = {static_cast<uint32_t>(kStepBytes / bytes_of(p.in)), 1,
                                       static_cast<uint32_t>(kernel.heads * kHeadDim / 2)};
  return tiled_map(p.in, p.weight, sizes, pitches, box, kStepBytes);
}

}  // namespace

std::string ProjectKernel::name() const {
  return fmt::format("{}x{} c{} b{}", rows, heads, cluster, blocks);
}

std::span<const ProjectKernel> project_kernels() {
  static const std::vector<ProjectKernel> kAll = [] {
    std::vector<ProjectKernel> all;
    for (auto* part : kProjectInstanceParts) {
      for (const ProjectKernel& kernel : part()) all.push_back(kernel);
    }
    return all;
  }();
  return kAll;
}

std::vector<const ProjectKernel*> project_candidates(const ProjectProblem& p) {
  std::vector<const ProjectKernel*> chosen;
  for (const ProjectKernel& kernel : project_kernels()) {
    if (kernel.in == p.in && kernel.element == p.attention.element &&
        p.attention.heads % kernel.heads == 0) {
      chosen.push_back(&kernel);
    }
  }
  return chosen;
}

ProjectAttention::ProjectAttention(const ProjectKernel& kernel, const ProjectProblem& p)
    : kernel_(&kernel), args_{} {
  const AttentionProblem& a = p.attention;
  args_.base = attention_args(a, kTextKeys);
  args_.base.q = x_map(p, kernel);
  args_.b = weight_map(p, kernel);
  args_.n = static_cast<int>(a.heads * kHeadDim);
  args_.out = a.out;
  const int64_t step = kStepBytes / bytes_of(p.in);
  args_.steps = static_cast<int>((p.channels + step - 1) / step);
  args_.queries = static_cast<int>(a.queries);
  args_.row_scale = p.row_scale;
  args_.column_scale = p.column_scale;
  args_.row_scale_step = p.row_scales ? 1 : 0;
  args_.constant_weights = p.constant_weight;
  const int64_t rows = int64_t{kernel.rows} * kernel.cluster;
  grid_ = dim3(static_cast<unsigned>((a.queries + rows - 1) / rows * kernel.cluster),
               static_cast<unsigned>(a.heads / kernel.heads), static_cast<unsigned>(a.batch));
  check(cudaFuncSetAttribute(kernel.function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             kernel.shared_bytes),
        "raising a kernel's shared memory");
}

void ProjectAttention::launch(cudaStream_t stream) const {
  const ClusterLaunch launch(grid_, kernel_->cluster, kernel_->threads, kernel_->shared_bytes,
                             stream);
  void* arguments[] = {const_cast<ProjectArgs*>(&args_)};
  check(cudaLaunchKernelExC(&launch.config, kernel_->function, arguments), "launching attention");
}

}  // namespace halftone::backend::cuda::hopper
