#include "quant/editor.h"

#include <utility>

namespace halftone::quant {

using graph::Node;
using graph::Operand;
using graph::Role;
using graph::ValueId;

ValueId operand_of(const Node& node, Role role) {
  for (const Operand& operand : node.inputs) {
    if (operand.role == role) return operand.value;
  }
  return graph::kNoValue;
}

Editor::Editor(graph::Graph& graph)
    : graph_(graph), producer_(graph.values().size(), kNone), uses_(graph.values().size(), 0) {
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    for (const ValueId id : graph.nodes()[i].outputs) producer_[id] = i;
    for (const Operand& operand : graph.nodes()[i].inputs) ++uses_[operand.value];
  }
  for (const graph::GraphOutput& output : graph.outputs()) ++uses_[output.value];
}

size_t Editor::producer_index(ValueId value) const {
  return value < producer_.size() ? producer_[value] : kNone;
}

const Node* Editor::producer(ValueId value) const {
  const size_t index = producer_index(value);
  return index == kNone ? nullptr : &graph_.nodes()[index];
}

size_t Editor::num_uses(ValueId value) const { return value < uses_.size() ? uses_[value] : 0; }

ValueId Editor::add(graph::OpAttrs attrs, std::vector<Operand> inputs, std::string name) {
  const ValueId first = graph_.add_node(std::move(attrs), std::move(inputs), std::move(name));
  producer_.resize(graph_.values().size(), kNone);
  for (const ValueId id : graph_.nodes().back().outputs) producer_[id] = graph_.nodes().size() - 1;
  return first;
}

ValueId Editor::second_output(ValueId first) const { return producer(first)->outputs.at(1); }

ValueId Editor::literal(std::string name, const std::vector<float>& values) {
  return graph_.add_literal(std::move(name),
                            Tensor::from({static_cast<int64_t>(values.size())}, values));
}

ValueId Editor::literal(std::string name, int32_t value) {
  Tensor tensor({DType::kI32, {1}});
  tensor.values<int32_t>()[0] = value;
  return graph_.add_literal(std::move(name), std::move(tensor));
}

ValueId Editor::operand(size_t node, Role role) const {
  if (const auto edited = edits_.find(node); edited != edits_.end()) {
    const auto found = edited->second.find(role);
    if (found != edited->second.end()) return found->second;
  }
  return operand_of(graph_.nodes()[node], role);
}

void Editor::set_operand(size_t node, Role role, ValueId value) { edits_[node][role] = value; }

void Editor::set_attrs(size_t node, graph::OpAttrs attrs) { new_attrs_[node] = std::move(attrs); }

void Editor::commit() {
  std::vector<Node> nodes = graph_.nodes();
  for (auto& [index, attrs] : new_attrs_) nodes[index].attrs = std::move(attrs);
  for (const auto& [index, roles] : edits_) {
    for (const auto& [role, value] : roles) {
      for (Operand& operand : nodes[index].inputs) {
        if (operand.role != role) continue;
        operand.value = value;
        break;
      }
    }
  }
  std::vector<Node> ordered;
  std::vector<bool> done(nodes.size(), false);
  // Depth-first with an explicit stack: (node, next operand to look at).
  std::vector<std::pair<size_t, size_t>> open;
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (!done[i]) open.emplace_back(i, 0);
    while (!open.empty()) {
      auto& [index, next] = open.back();
      if (done[index]) {
        open.pop_back();
      } else if (next == nodes[index].inputs.size()) {
        done[index] = true;
        ordered.push_back(std::move(nodes[index]));
        open.pop_back();
      } else {
        const size_t before = producer_index(nodes[index].inputs[next++].value);
        if (before != kNone && !done[before]) open.emplace_back(before, 0);
      }
    }
  }
  graph_.set_nodes(std::move(ordered));
  verify(graph_);
}

}  // namespace halftone::quant
