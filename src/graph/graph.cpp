#include "graph/graph.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "halftone/error.h"

namespace halftone::graph {
namespace {

Rate rate_of_inputs(const Graph& graph, const std::vector<Operand>& inputs) {
  Rate rate = Rate::kLoad;
  for (const Operand& operand : inputs) rate = std::max(rate, graph.value(operand.value).rate);
  return rate;
}

[[noreturn]] void broken(const Node& node, std::string_view what) {
  throw Error(Errc::kInternal,
              fmt::format("graph: node '{}' ({}): {}", node.name, name_of(node.attrs), what));
}

void verify_node(const Graph& graph, const Node& node, const std::vector<bool>& defined) {
  for (const Operand& operand : node.inputs) {
    if (operand.value >= defined.size()) broken(node, "operand id out of range");
    if (!defined[operand.value]) {
      broken(node, fmt::format("uses '{}' before it is defined", graph.value(operand.value).name));
    }
  }
  std::vector<TensorType> types;
  try {
    types = infer_types(node.attrs, graph.typed_inputs(node));
  } catch (const Error& error) {
    broken(node, error.what());
  }
  if (types.size() != node.outputs.size()) broken(node, "wrong number of outputs");
  const Rate rate = rate_of_inputs(graph, node.inputs);
  for (size_t i = 0; i < types.size(); ++i) {
    if (node.outputs[i] >= defined.size()) broken(node, "output id out of range");
    const Value& value = graph.value(node.outputs[i]);
    if (value.type != types[i]) {
      broken(node,
             fmt::format("output is {}, inferred {}", to_string(value.type), to_string(types[i])));
    }
    if (value.rate != rate) broken(node, "output rate is not the highest rate of the inputs");
    if (value.is_input || value.constant) broken(node, "writes an input or a constant");
    if (defined[node.outputs[i]]) broken(node, "writes a value twice");
  }
}

}  // namespace

ValueId Graph::new_value(std::string name, TensorType type, Rate rate) {
  Value value;
  value.name = std::move(name);
  value.type = std::move(type);
  value.rate = rate;
  values_.push_back(std::move(value));
  return static_cast<ValueId>(values_.size() - 1);
}

ValueId Graph::add_input(std::string name, TensorType type, Rate rate) {
  const ValueId id = new_value(std::move(name), std::move(type), rate);
  values_[id].is_input = true;
  return id;
}

ValueId Graph::add_weight(std::string source_name, TensorType type) {
  const ValueId id = new_value(source_name, std::move(type), Rate::kLoad);
  values_[id].constant = ConstantSource{std::move(source_name), nullptr};
  return id;
}

ValueId Graph::add_literal(std::string name, Tensor tensor) {
  const ValueId id = new_value(std::move(name), tensor.type(), Rate::kLoad);
  values_[id].constant = ConstantSource{"", std::make_shared<const Tensor>(std::move(tensor))};
  return id;
}

ValueId Graph::add_node(OpAttrs attrs, std::vector<Operand> inputs, std::string name) {
  Node node{std::move(attrs), std::move(inputs), {}, std::move(name)};
  std::vector<TensorType> types;
  try {
    types = infer_types(node.attrs, typed_inputs(node));
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{}: {}", node.name, error.what()));
  }
  const Rate rate = rate_of_inputs(*this, node.inputs);
  for (TensorType& type : types) {
    node.outputs.push_back(new_value(node.name, std::move(type), rate));
  }
  nodes_.push_back(std::move(node));
  return nodes_.back().outputs.front();
}

void Graph::add_output(std::string name, ValueId value) {
  outputs_.push_back({std::move(name), value});
}

std::vector<TypedOperand> Graph::typed_inputs(const Node& node) const {
  std::vector<TypedOperand> typed;
  typed.reserve(node.inputs.size());
  for (const Operand& operand : node.inputs) typed.push_back({operand.role, type(operand.value)});
  return typed;
}

std::vector<TypedOperand> Graph::typed_outputs(const Node& node) const {
  std::vector<TypedOperand> typed;
  typed.reserve(node.outputs.size());
  for (const ValueId id : node.outputs) {
    typed.push_back({output_role(node.attrs, typed.size()), type(id)});
  }
  return typed;
}

void verify(const Graph& graph) {
  std::vector<bool> defined(graph.values().size(), false);
  for (size_t i = 0; i < graph.values().size(); ++i) {
    const Value& value = graph.values()[i];
    defined[i] = value.is_input || value.constant.has_value();
  }
  for (const Node& node : graph.nodes()) {
    verify_node(graph, node, defined);
    for (const ValueId id : node.outputs) defined[id] = true;
  }
  for (const GraphOutput& output : graph.outputs()) {
    if (output.value >= defined.size() || !defined[output.value]) {
      throw Error(Errc::kInternal, fmt::format("graph: output '{}' is never defined", output.name));
    }
  }
}

}  // namespace halftone::graph
