#include "cpu_kernels.h"

#include <cstring>

#include <gtest/gtest.h>

#include "backend/cpu/cpu_device.h"

namespace halftone::conformance {
namespace {

bool is_scale(Role role) {
  return role == Role::kXScale || role == Role::kWScale || role == Role::kYScale ||
         role == Role::kQScale || role == Role::kKScale || role == Role::kVScale;
}

bool equal_bytes(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::memcmp(a[i].data(), b[i].data(), a[i].type().num_bytes()) != 0) return false;
  }
  return true;
}

}  // namespace

const std::vector<Processor>& processors() {
  static const std::vector<Processor> all{{"native", {}, {}},
                                          {"avx512", {"amx", "avx512_bf16"}, {}},
                                          {"bf16", {}, {"avx512_bf16"}},
                                          {"amx", {}, {"avx512_bf16", "amx_bf16", "amx_int8"}},
                                          {"avx2", {"avx512"}, {}},
                                          {"none", {"avx2"}, {}}};
  return all;
}

ProcessorDevice create_device(const Processor& processor, int threads) {
  backend::cpu::CpuOptions options;
  options.threads = threads;
  options.disabled_features = processor.disabled;
  ProcessorDevice result{backend::cpu::create_cpu_device(options), {}};
  result.info = result.device->info();
  for (const std::string& feature : processor.extra) result.info.features.push_back(feature);
  return result;
}

std::vector<Tensor> run_kernel(const backend::Kernel& kernel, const backend::DeviceInfo& info,
                               const Case& c, const Question& q, Layout layout,
                               backend::Stream& stream) {
  const graph::OpDesc desc = q.desc(c);
  const backend::Config config =
      kernel.configs ? kernel.configs(desc, info).front() : backend::Config{};
  const size_t packed_bytes = kernel.packed_bytes ? kernel.packed_bytes(desc, info, config) : 0;
  GuardedMemory packed(packed_bytes);
  std::vector<GuardedTensor> inputs;
  std::vector<TensorView> views;
  for (size_t i = 0; i < q.inputs.size(); ++i) {
    const bool is_packed = packed_bytes > 0 && q.typed_inputs[i].role == Role::kWeight;
    // Coefficients and scales are small dense buffers by definition; a packed weight is dense when
    // it is packed.
    const Role role = q.typed_inputs[i].role;
    const bool plain = is_packed || role == Role::kCoefficients || is_scale(role);
    inputs.emplace_back(q.inputs[i].type(), plain ? Layout::kDense : layout);
    inputs.back().write(q.inputs[i]);
    views.push_back(inputs.back().view());
    if (is_packed) {
      EXPECT_FALSE(kernel.pack_key(desc, info, config).empty());
      kernel.pack(desc, info, config, inputs.back().view(), packed.data());
      views.back().data = packed.data();
    }
  }
  std::vector<GuardedTensor> outputs;
  std::vector<TensorView> output_views;
  for (const Tensor& answer : q.answers) {
    outputs.emplace_back(answer.type(), outputs.empty() ? layout : Layout::kDense);
    output_views.push_back(outputs.back().view());
  }
  const auto read = [&] {
    std::vector<Tensor> tensors;
    for (const GuardedTensor& output : outputs) tensors.push_back(output.read());
    return tensors;
  };
  GuardedMemory workspace(kernel.workspace_bytes ? kernel.workspace_bytes(desc, info, config) : 0);
  const auto launch = kernel.prepare(desc, info, config, {views, output_views, workspace.data()});
  launch->enqueue(stream);
  std::vector<Tensor> first = read();
  workspace.poison();
  for (GuardedTensor& output : outputs) output.poison();
  launch->enqueue(stream);
  EXPECT_TRUE(equal_bytes(first, read())) << "runs differ";
  for (const GuardedTensor& output : outputs) EXPECT_TRUE(output.guards_intact()) << "an output";
  EXPECT_TRUE(workspace.guards_intact()) << "workspace";
  EXPECT_TRUE(packed.guards_intact()) << "packed weight";
  for (const GuardedTensor& input : inputs) EXPECT_TRUE(input.guards_intact()) << "an input";
  return first;
}

void expect_threads_agree(const backend::Kernel& kernel, const backend::DeviceInfo& info,
                          const Case& c, const Question& q, Layout layout, backend::Stream& stream,
                          const std::vector<Tensor>& many) {
  if (kernel.name.find("onednn") != std::string_view::npos) return;
  backend::DeviceInfo serial = info;
  serial.num_units = 1;
  EXPECT_TRUE(equal_bytes(run_kernel(kernel, serial, c, q, layout, stream), many))
      << "threads matter";
}

}  // namespace halftone::conformance
