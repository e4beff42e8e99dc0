// Kernels of the CPU's list, run in guarded memory for several processors.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "guarded.h"
#include "question.h"

namespace halftone::conformance {

// A processor to plan for. oneDNN keeps the limits of the first device of a process, so its
// narrower code runs where each test is a process of its own, as under ctest. `extra`: features
// claimed beyond what the processor has, where oneDNN and our tile products emulate.
struct Processor {
  std::string name;
  std::vector<std::string> disabled, extra;
};
[[nodiscard]] const std::vector<Processor>& processors();

// The CPU as such a processor.
struct ProcessorDevice {
  std::unique_ptr<backend::Device> device;
  backend::DeviceInfo info;  // with the extra features
};
[[nodiscard]] ProcessorDevice create_device(const Processor& processor, int threads);

// Runs the call twice between guard zones, outputs and workspace poisoned with NaN, and returns its
// outputs. Adds failures for what differs between the runs and for what is written beside.
[[nodiscard]] std::vector<Tensor> run_kernel(const backend::Kernel& kernel,
                                             const backend::DeviceInfo& info, const Case& c,
                                             const Question& q, Layout layout,
                                             backend::Stream& stream);
// Adds a failure where one thread gives other bits than `many`, the outputs of info's threads. The
// number of threads is oneDNN's business; our own sums have one order.
void expect_threads_agree(const backend::Kernel& kernel, const backend::DeviceInfo& info,
                          const Case& c, const Question& q, Layout layout, backend::Stream& stream,
                          const std::vector<Tensor>& many);

}  // namespace halftone::conformance
