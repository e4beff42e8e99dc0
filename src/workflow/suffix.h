// The rest of a graph from some node on, with the values that it takes from before as inputs: what
// a change of one layer costs to evaluate again. And a graph whose inputs can be read back.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"

namespace halftone::workflow {

struct Suffix {
  graph::Graph graph;  // outputs as those of the whole graph, as far as they are computed here
  // The values that cross the cut, in `graph` as inputs named suffix_input(id); their rates stay.
  std::vector<graph::ValueId> inputs;
};

[[nodiscard]] std::string suffix_input(graph::ValueId id);

// Makes the inputs but those of the schedule outputs too, under names of their own: what an
// executor was given can be read after a run.
void show_inputs(graph::Graph& graph);
[[nodiscard]] std::string shown_input(std::string_view input);

// Nodes from `first` on, and the load-stage nodes before it that they read.
[[nodiscard]] Suffix suffix_of(const graph::Graph& graph, size_t first);

}  // namespace halftone::workflow
