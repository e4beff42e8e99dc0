#include <algorithm>
#include <array>
#include <chrono>

#include <fmt/format.h>

#include "halftone/error.h"

#include "compile/compile.h"

namespace halftone::compile {

#define HALFTONE_PASS(name) extern const Pass kPass_##name;
#include "compile/passes/passes.inc"
#undef HALFTONE_PASS

std::span<const Pass> passes() {
  static const std::array kAll = {
#define HALFTONE_PASS(name) kPass_##name,
#include "compile/passes/passes.inc"
#undef HALFTONE_PASS
  };
  return kAll;
}

namespace {

void need_known_passes(const CompileOptions& options) {
  for (const std::string& name : options.disabled_passes) {
    const auto known = [&](const Pass& pass) { return pass.name == name; };
    if (std::ranges::any_of(passes(), known)) continue;
    std::string names;
    for (const Pass& pass : passes()) names.append(names.empty() ? "" : ", ").append(pass.name);
    throw Error(Errc::kInvalidArgument,
                fmt::format("unknown pass '{}'; there are: {}", name, names));
  }
}

void run_chosen(graph::Graph& graph, const CompileOptions& options, bool only_early) {
  need_known_passes(options);
  verify(graph);
  for (const Pass& pass : passes()) {
    if (only_early && !pass.early) continue;
    if (options.disabled_passes.contains(std::string(pass.name))) continue;
    const size_t before = graph.nodes().size();
    const auto start = std::chrono::steady_clock::now();
    if (pass.run_for != nullptr) {
      pass.run_for(
          graph,
          options.has_kernel ? options.has_kernel : [](const graph::OpDesc&) { return true; });
    } else {
      pass.run(graph);
    }
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    verify(graph);
    log(options.logger, LogLevel::kDebug, "compile",
        fmt::format("{}: {} -> {} nodes, {:.1f} ms", pass.name, before, graph.nodes().size(),
                    took.count()));
  }
}

}  // namespace

void run_passes(graph::Graph& graph, const CompileOptions& options) {
  run_chosen(graph, options, false);
}

void run_early_passes(graph::Graph& graph, const CompileOptions& options) {
  run_chosen(graph, options, true);
}

std::vector<std::pair<std::string, std::string>> compile_entries(const CompileOptions& options) {
  need_known_passes(options);
  std::string run;
  for (const Pass& pass : passes()) {
    if (options.disabled_passes.contains(std::string(pass.name))) continue;
    run.append(run.empty() ? "" : ",").append(pass.name);
  }
  std::string kernels;
  for (const std::string& name : options.disabled_kernels) {
    kernels.append(kernels.empty() ? "" : ",").append(name);
  }
  return {{"passes", run}, {"disabled_kernels", kernels}};
}

}  // namespace halftone::compile
