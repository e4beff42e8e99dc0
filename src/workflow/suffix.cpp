#include "workflow/suffix.h"

#include <map>

#include <fmt/format.h>

namespace halftone::workflow {
namespace {

using graph::Graph;
using graph::Node;
using graph::ValueId;

class Cutter {
 public:
  explicit Cutter(const Graph& from) : from_(from) {
    for (const Node& node : from.nodes()) {
      for (const ValueId output : node.outputs) producers_[output] = &node;
    }
  }

  Suffix run(size_t first) {
    for (size_t i = first; i < from_.nodes().size(); ++i) copy(from_.nodes()[i]);
    for (const graph::GraphOutput& output : from_.outputs()) {
      const auto found = copies_.find(output.value);
      if (found != copies_.end()) result_.graph.add_output(output.name, found->second);
    }
    return std::move(result_);
  }

 private:
  ValueId copy(const Node& node) {
    std::vector<graph::Operand> inputs;
    for (const graph::Operand& input : node.inputs) {
      inputs.push_back({input.role, copy(input.value)});
    }
    const ValueId first = result_.graph.add_node(node.attrs, std::move(inputs), node.name);
    const auto outputs = result_.graph.nodes().back().outputs;
    for (size_t i = 0; i < outputs.size(); ++i) copies_[node.outputs[i]] = outputs[i];
    return first;
  }

  ValueId copy(ValueId id) {
    const auto found = copies_.find(id);
    if (found != copies_.end()) return found->second;
    const graph::Value& value = from_.value(id);
    if (value.constant) {
      return copies_[id] =
                 value.constant->literal
                     ? result_.graph.add_literal(value.name, value.constant->literal->clone())
                     : result_.graph.add_weight(value.constant->weight, value.type);
    }
    if (value.rate == graph::Rate::kLoad) {
      copy(*producers_.at(id));
      return copies_.at(id);
    }
    result_.inputs.push_back(id);
    return copies_[id] = result_.graph.add_input(suffix_input(id), value.type, value.rate);
  }

  const Graph& from_;
  Suffix result_;
  std::map<ValueId, const Node*> producers_;
  std::map<ValueId, ValueId> copies_;
};

}  // namespace

std::string suffix_input(ValueId id) { return fmt::format("value{}", id); }

std::string shown_input(std::string_view input) { return fmt::format("input/{}", input); }

void show_inputs(Graph& graph) {
  std::vector<ValueId> shown;
  for (ValueId id = 0; id < graph.values().size(); ++id) {
    const graph::Value& value = graph.value(id);
    if (value.is_input && value.rate != graph::Rate::kSchedule) shown.push_back(id);
  }
  for (const ValueId id : shown) graph.add_output(shown_input(graph.value(id).name), id);
}

Suffix suffix_of(const Graph& graph, size_t first) { return Cutter(graph).run(first); }

}  // namespace halftone::workflow
