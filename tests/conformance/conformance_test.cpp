// Every kernel of the CPU's list, for several sets of processor features, against the reference on
// every case that it supports: guard zones around every buffer, outputs and workspace poisoned with
// NaN, each call run twice and compared bit for bit.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <random>

#include <gtest/gtest.h>

#include "backend/cpu/cpu_device.h"
#include "backend/cpu/kernels.h"
#include "case.h"
#include "guarded.h"
#include "question.h"

namespace halftone::conformance {
namespace {

using backend::Kernel;

// A processor to plan for. oneDNN keeps the limits of the first device of a process, so its
// narrower code runs where each test is a process of its own, as under ctest. `extra`: features
// claimed beyond what the processor has, where oneDNN and our tile products emulate.
struct Processor {
  std::string name;
  std::vector<std::string> disabled, extra;
};

const std::vector<Processor>& processors() {
  static const std::vector<Processor> all{{"native", {}, {}},
                                          {"avx512", {"amx", "avx512_bf16"}, {}},
                                          {"bf16", {}, {"avx512_bf16"}},
                                          {"amx", {}, {"avx512_bf16", "amx_bf16", "amx_int8"}},
                                          {"avx2", {"avx512"}, {}},
                                          {"none", {"avx2"}, {}}};
  return all;
}

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

// Runs the call twice and returns its outputs.
std::vector<Tensor> run_kernel(const Kernel& kernel, const backend::DeviceInfo& info, const Case& c,
                               const Question& q, Layout layout, backend::Stream& stream) {
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

void test_kernel(const Kernel& kernel, const backend::DeviceInfo& info, const Case& c,
                 const Question& q, backend::Stream& stream) {
  for (const Layout layout : {Layout::kDense, Layout::kMisaligned, Layout::kPitched}) {
    SCOPED_TRACE(std::string(to_string(layout)));
    expect_close(c, q, run_kernel(kernel, info, c, q, layout, stream));
  }
  // The number of threads is oneDNN's business; our own sums have one order.
  if (kernel.name.find("onednn") != std::string_view::npos) return;
  backend::DeviceInfo serial = info;
  serial.num_units = 1;
  const auto one = run_kernel(kernel, serial, c, q, Layout::kDense, stream);
  const auto many = run_kernel(kernel, info, c, q, Layout::kDense, stream);
  EXPECT_TRUE(equal_bytes(one, many)) << "threads matter";
}

class Conformance : public testing::TestWithParam<std::tuple<size_t, size_t>> {};

TEST_P(Conformance, EqualsReference) {
  const Processor& processor = processors()[std::get<0>(GetParam())];
  backend::cpu::CpuOptions options;
  options.threads = 2;
  options.disabled_features = processor.disabled;
  const auto device = backend::cpu::create_cpu_device(options);
  const Kernel& kernel = *device->kernels()[std::get<1>(GetParam())];
  backend::DeviceInfo info = device->info();
  for (const std::string& feature : processor.extra) info.features.push_back(feature);
  const auto stream = device->create_stream();
  size_t reached = 0;
  std::string reason = "no case of its op";
  for (const Case& c : all_cases()) {
    if (graph::kind_of(c.attrs) != kernel.op) continue;
    SCOPED_TRACE(c.name);
    const Question q = make_question(c);
    const backend::Support support = supports(kernel, q.desc(c), info);
    if (!support.ok) {
      EXPECT_FALSE(support.reason.empty());
      reason = support.reason;
      continue;
    }
    ++reached;
    test_kernel(kernel, info, c, q, *stream);
    if (HasFailure()) break;  // one case explains enough
  }
  if (reached == 0) GTEST_SKIP() << reason;
}

std::string test_name(const testing::TestParamInfo<std::tuple<size_t, size_t>>& info) {
  std::string name = processors()[std::get<0>(info.param)].name + "_" +
                     std::string(backend::cpu::all_kernels()[std::get<1>(info.param)]->name);
  std::ranges::replace(name, '.', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(
    Cpu, Conformance,
    testing::Combine(testing::Range<size_t>(0, processors().size()),
                     testing::Range<size_t>(0, backend::cpu::all_kernels().size())),
    test_name);

// A kernel that no case reaches on any processor is untested.
TEST(ConformanceCases, ReachEveryKernel) {
  std::vector<backend::DeviceInfo> infos;
  const auto device = backend::cpu::create_cpu_device();
  for (const Processor& processor : processors()) {
    backend::cpu::CpuOptions options;
    options.disabled_features = processor.disabled;
    infos.push_back(backend::cpu::create_cpu_device(options)->info());
    for (const std::string& feature : processor.extra) infos.back().features.push_back(feature);
  }
  std::map<std::string_view, bool> reached;
  for (const Kernel* kernel : device->kernels()) reached[kernel->name] = false;
  for (const Case& c : all_cases()) {
    std::vector<graph::TypedOperand> inputs;
    for (const Input& input : c.inputs) inputs.push_back({input.role, input.type});
    const std::vector<graph::TypedOperand> outputs = outputs_of(c.attrs, inputs);
    for (const Kernel* kernel : device->kernels()) {
      if (kernel->op != graph::kind_of(c.attrs)) continue;
      for (const backend::DeviceInfo& info : infos) {
        if (supports(*kernel, {c.attrs, inputs, outputs}, info).ok) reached[kernel->name] = true;
      }
    }
  }
  for (const auto& [name, was_reached] : reached) EXPECT_TRUE(was_reached) << name;
}

}  // namespace
}  // namespace halftone::conformance
