// Every kernel of the CPU's list against the reference on cases drawn at random (random_cases.h),
// checked as the tables' cases are; random_walk.h says how to walk others.
#include <exception>
#include <map>

#include <gtest/gtest.h>

#include "cpu_kernels.h"
#include "random_walk.h"

namespace halftone::conformance {
namespace {

using backend::Kernel;

// Enough that every kernel is reached, few enough that all tests together take seconds.
uint64_t default_count(Family family) {
  switch (family) {
    case Family::kLinear:
    case Family::kConv2d:
    case Family::kAttention:
      return 100;
    default:
      return 200;
  }
}

Walk walk_of(Family family, size_t processor) { return {family, processor, default_count(family)}; }

bool is_reference(const Kernel& kernel) { return kernel.name.ends_with(".reference"); }

std::vector<const Kernel*> kernels_for(const backend::Device& device, const graph::OpDesc& desc,
                                       const backend::DeviceInfo& info) {
  std::vector<const Kernel*> found;
  for (const Kernel* kernel : device.kernels()) {
    if (kernel->op != graph::kind_of(desc.attrs) || is_reference(*kernel)) continue;
    if (supports(*kernel, desc, info).ok) found.push_back(kernel);
  }
  return found;
}

// Adds failures for what a kernel makes of a case; returns whether it ran.
bool check(const Kernel& kernel, const backend::DeviceInfo& info, const Case& c, const Question& q,
           Layout layout, backend::Stream& stream) {
  const std::string call = std::string(kernel.name) + " " + std::string(to_string(layout));
  SCOPED_TRACE(call);
  print_if_wanted(call, c);
  try {
    const std::vector<Tensor> outputs = run_kernel(kernel, info, c, q, layout, stream);
    expect_close(c, q, outputs);
    expect_threads_agree(kernel, info, c, q, layout, stream, outputs);
    return true;
  } catch (const std::exception& error) {
    ADD_FAILURE() << error.what();
    return false;
  }
}

class RandomCases : public testing::TestWithParam<std::tuple<size_t, Family>> {};

TEST_P(RandomCases, EqualReference) {
  const auto [index, family] = GetParam();
  Walk walk = walk_of(family, index);
  walk.take_environment();
  const Processor& processor = processors()[index];
  const ProcessorDevice on = create_device(processor, 3);
  const auto stream = on.device->create_stream();
  int runs = 0;
  const uint64_t refused = walk.each([&](const Case& c, uint64_t seed) {
    const std::vector<const Kernel*> kernels =
        kernels_for(*on.device, types_of(c).desc(c), on.info);
    if (kernels.empty()) return;
    SCOPED_TRACE(processor.name + " " + c.name);
    const std::optional<Question> q = answered(c);
    if (!q) return;
    for (const Kernel* kernel : kernels) {
      if (check(*kernel, on.info, c, *q, static_cast<Layout>(seed % 3), *stream)) ++runs;
    }
  });
  RecordProperty("kernel_runs", runs);
  EXPECT_LE(refused, walk.count / 4 + 1) << "cases that type inference refuses";
  if (runs == 0) GTEST_SKIP() << "no kernel of this processor but the reference";
}

std::string test_name(const testing::TestParamInfo<std::tuple<size_t, Family>>& info) {
  return processors()[std::get<0>(info.param)].name + "_" +
         std::string(to_string(std::get<1>(info.param)));
}

INSTANTIATE_TEST_SUITE_P(Cpu, RandomCases,
                         testing::Combine(testing::Range<size_t>(0, processors().size()),
                                          testing::ValuesIn(kFamilies)),
                         test_name);

// What the tests above run by default: every kernel of the list.
TEST(RandomCasesCoverage, ReachEveryKernel) {
  std::map<std::string_view, int> reached;
  for (size_t processor = 0; processor < processors().size(); ++processor) {
    const ProcessorDevice on = create_device(processors()[processor], 3);
    for (const Kernel* kernel : on.device->kernels()) {
      if (!is_reference(*kernel)) reached.try_emplace(kernel->name, 0);
    }
    for (const Family family : kFamilies) {
      walk_of(family, processor).each([&](const Case& c, uint64_t) {
        for (const Kernel* kernel : kernels_for(*on.device, types_of(c).desc(c), on.info)) {
          ++reached[kernel->name];
        }
      });
    }
  }
  for (const auto& [name, cases] : reached) {
    EXPECT_GT(cases, 0) << name;
    RecordProperty(std::string(name), cases);
  }
}

}  // namespace
}  // namespace halftone::conformance
