#include "workflow/graph_plan.h"

#include <utility>

#include "compile/compile.h"

namespace halftone::workflow {

std::shared_ptr<const runtime::Plan> plan_of_graph(const backend::Device& device,
                                                   const std::string& component, graph::Graph graph,
                                                   const std::map<std::string, int64_t>& shape,
                                                   const std::set<std::string>& disabled_passes) {
  compile::CompileOptions options;
  options.disabled_passes = disabled_passes;
  runtime::Plan plan;
  plan.component = component;
  plan.fingerprint.entries = {{"component", component}, {"precision", "fp32"}};
  plan.profiles.push_back(
      compile::compile_profile(std::move(graph), shape, device.info(), device.kernels(), options));
  return std::make_shared<const runtime::Plan>(std::move(plan));
}

}  // namespace halftone::workflow
