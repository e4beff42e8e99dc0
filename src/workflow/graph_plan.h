// A graph made into a plan on the spot, for measuring: nothing is kept between processes.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>

#include "backend/backend.h"
#include "graph/graph.h"
#include "runtime/plan.h"

namespace halftone::workflow {

// One profile for `shape`, in fp32.
[[nodiscard]] std::shared_ptr<const runtime::Plan> plan_of_graph(
    const backend::Device& device, const std::string& component, graph::Graph graph,
    const std::map<std::string, int64_t>& shape, const std::set<std::string>& disabled_passes = {});

}  // namespace halftone::workflow
