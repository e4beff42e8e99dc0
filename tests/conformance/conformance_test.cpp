// Every kernel of the CPU's list, for several sets of processor features, against the reference on
// every case that it supports: guard zones around every buffer, outputs and workspace poisoned with
// NaN, each call run twice and compared bit for bit.
#include <algorithm>
#include <map>

#include <gtest/gtest.h>

#include "backend/cpu/cpu_device.h"
#include "backend/cpu/kernels.h"
#include "case.h"
#include "cpu_kernels.h"

namespace halftone::conformance {
namespace {

using backend::Kernel;

void test_kernel(const Kernel& kernel, const backend::DeviceInfo& info, const Case& c,
                 const Question& q, backend::Stream& stream) {
  for (const Layout layout : {Layout::kDense, Layout::kMisaligned, Layout::kPitched}) {
    SCOPED_TRACE(std::string(to_string(layout)));
    const std::vector<Tensor> outputs = run_kernel(kernel, info, c, q, layout, stream);
    expect_close(c, q, outputs);
    if (layout == Layout::kDense) expect_threads_agree(kernel, info, c, q, layout, stream, outputs);
  }
}

class Conformance : public testing::TestWithParam<std::tuple<size_t, size_t>> {};

TEST_P(Conformance, EqualsReference) {
  const Processor& processor = processors()[std::get<0>(GetParam())];
  const auto [device, info] = create_device(processor, 2);
  const Kernel& kernel = *device->kernels()[std::get<1>(GetParam())];
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
    infos.push_back(create_device(processor, 2).info);
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
