// From a graph to a plan: passes, kernel selection, split by rate, memory planning.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "halftone/log.h"

#include "backend/backend.h"
#include "graph/graph.h"
#include "runtime/plan.h"

namespace halftone::compile {

// Whether the device has a kernel (other than the reference) for an op.
using HasKernel = std::function<bool(const graph::OpDesc&)>;

// Whether `pattern`, a name or a prefix ending in '*', names the kernel.
[[nodiscard]] bool names_kernel(std::string_view pattern, std::string_view kernel);

struct CompileOptions {
  std::set<std::string> disabled_passes;   // by name; unknown names are kInvalidArgument
  std::set<std::string> disabled_kernels;  // patterns of names_kernel()
  Logger logger;                           // debug: one line a pass (nodes before, after, ms)
  HasKernel has_kernel{};                  // empty: every op has one; set by compile_profile
};

struct Pass {
  std::string_view name;
  std::string_view what;  // one line for humans
  bool exact;             // bit-equal on the reference; false = reassociates
  void (*run)(graph::Graph&);
  // Instead of `run`, for passes that make what the device can run.
  void (*run_for)(graph::Graph&, const HasKernel&) = nullptr;
  // Changes weights, so that it must come before what quantizes them (run_early_passes).
  bool early = false;
};
// In the order in which they run.
[[nodiscard]] std::span<const Pass> passes();
// Runs the enabled passes, verifying the graph after each.
void run_passes(graph::Graph& graph, const CompileOptions& options);
// Only those that must come before quantization; doing it again changes nothing.
void run_early_passes(graph::Graph& graph, const CompileOptions& options);

// Selects kernels and plans memory for one concrete shape. Throws kUnsupported naming the node and
// every kernel's refusal when nothing serves an op.
[[nodiscard]] runtime::Profile compile_profile(graph::Graph graph,
                                               std::map<std::string, int64_t> shape,
                                               const backend::DeviceInfo& device,
                                               std::span<const backend::Kernel* const> kernels,
                                               const CompileOptions& options = {});

// Fingerprint entries that the compiler adds: pass list, disabled passes and kernels. Throws
// kInvalidArgument when a pass is unknown: a plan from the cache is not compiled again.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> compile_entries(
    const CompileOptions& options);

}  // namespace halftone::compile
