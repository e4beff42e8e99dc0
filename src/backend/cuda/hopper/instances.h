// The files of compiled kernels.
#pragma once

#include <vector>

#include "backend/cuda/hopper/gemm.h"
#include "backend/cuda/hopper/project_attention.h"

namespace halftone::backend::cuda::hopper {

using InstancePart = std::vector<GemmKernel> (*)();

[[nodiscard]] std::vector<GemmKernel> s8_linear_kernels();
[[nodiscard]] std::vector<GemmKernel> s8_linear_bf16_kernels();
[[nodiscard]] std::vector<GemmKernel> s8_geglu_kernels();
[[nodiscard]] std::vector<GemmKernel> s8_activated_kernels();
[[nodiscard]] std::vector<GemmKernel> s8_amax_kernels();
[[nodiscard]] std::vector<GemmKernel> s8_amax_bf16_kernels();
[[nodiscard]] std::vector<GemmKernel> s8_conv_kernels();
[[nodiscard]] std::vector<GemmKernel> s8_conv_bf16_kernels();
[[nodiscard]] std::vector<GemmKernel> e4m3_linear_kernels();
[[nodiscard]] std::vector<GemmKernel> e4m3_linear_bf16_kernels();
[[nodiscard]] std::vector<GemmKernel> e4m3_activated_kernels();
[[nodiscard]] std::vector<GemmKernel> e4m3_amax_kernels();
[[nodiscard]] std::vector<GemmKernel> e4m3_amax_bf16_kernels();
[[nodiscard]] std::vector<GemmKernel> e4m3_conv_kernels();
[[nodiscard]] std::vector<GemmKernel> e4m3_conv_bf16_kernels();
[[nodiscard]] std::vector<GemmKernel> f16_linear_kernels();
[[nodiscard]] std::vector<GemmKernel> bf16_linear_kernels();
[[nodiscard]] std::vector<GemmKernel> f16_conv_kernels();
[[nodiscard]] std::vector<GemmKernel> bf16_conv_kernels();

inline constexpr InstancePart kInstanceParts[] = {
    s8_linear_kernels,      s8_linear_bf16_kernels,   s8_geglu_kernels,       s8_activated_kernels,
    s8_amax_kernels,        s8_amax_bf16_kernels,     s8_conv_kernels,        s8_conv_bf16_kernels,
    e4m3_linear_kernels,    e4m3_linear_bf16_kernels, e4m3_activated_kernels, e4m3_amax_kernels,
    e4m3_amax_bf16_kernels, e4m3_conv_kernels,        e4m3_conv_bf16_kernels, f16_linear_kernels,
    bf16_linear_kernels,    f16_conv_kernels,         bf16_conv_kernels,
};

using ProjectInstancePart = std::vector<ProjectKernel> (*)();

[[nodiscard]] std::vector<ProjectKernel> s8_project_kernels();
[[nodiscard]] std::vector<ProjectKernel> e4m3_project_kernels();
[[nodiscard]] std::vector<ProjectKernel> f16_project_kernels();
[[nodiscard]] std::vector<ProjectKernel> bf16_project_kernels();

inline constexpr ProjectInstancePart kProjectInstanceParts[] = {
    s8_project_kernels, e4m3_project_kernels, f16_project_kernels, bf16_project_kernels};

}  // namespace halftone::backend::cuda::hopper
