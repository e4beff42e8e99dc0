#include "compile/rewrite.h"

#include <limits>
#include <string>
#include <utility>

#include "halftone/error.h"

namespace halftone::compile {
namespace {
constexpr size_t kNone = std::numeric_limits<size_t>::max();
}

using graph::Node;
using graph::Operand;
using graph::ValueId;

Rewriter::Rewriter(graph::Graph& graph)
    : graph_(graph),
      nodes_(graph.nodes()),
      removed_(nodes_.size(), false),
      uses_(graph.values().size(), 0),
      producer_(graph.values().size(), kNone),
      replaced_by_(graph.values().size(), graph::kNoValue),
      inserted_(nodes_.size()) {
  for (size_t i = 0; i < nodes_.size(); ++i) {
    count(nodes_[i], true);
    for (const ValueId id : nodes_[i].outputs) producer_[id] = i;
  }
  for (const graph::GraphOutput& output : graph.outputs()) ++uses_[output.value];
}

void Rewriter::count(const Node& node, bool add) {
  for (const Operand& operand : node.inputs) {
    if (operand.value >= uses_.size()) continue;  // made by this pass
    uses_[operand.value] += add ? 1 : static_cast<size_t>(-1);
  }
}

std::optional<size_t> Rewriter::producer(ValueId value) const {
  if (value >= producer_.size()) return std::nullopt;
  const size_t node = producer_[value];
  return node == kNone || removed_[node] ? std::nullopt : std::optional(node);
}

ValueId Rewriter::operand(const Node& node, graph::Role role) {
  for (const Operand& operand : node.inputs) {
    if (operand.role == role) return operand.value;
  }
  return graph::kNoValue;
}

void Rewriter::remove(size_t index) {
  removed_[index] = true;
  count(nodes_[index], false);
}

void Rewriter::fuse(size_t from, size_t into, Node fused) {
  remove(from);
  count(nodes_[into], false);
  nodes_[into] = std::move(fused);
  count(nodes_[into], true);
  for (const ValueId id : nodes_[into].outputs) producer_[id] = into;
}

void Rewriter::replace(ValueId old_value, ValueId new_value) {
  replaced_by_[old_value] = new_value;
  if (new_value < uses_.size()) uses_[new_value] += uses_[old_value];
  uses_[old_value] = 0;
}

void Rewriter::insert_before(size_t index, std::vector<Node> nodes) {
  for (Node& node : nodes) inserted_[index].push_back(std::move(node));
}

ValueId Rewriter::resolve(ValueId value) const {
  while (value < replaced_by_.size() && replaced_by_[value] != graph::kNoValue) {
    value = replaced_by_[value];
  }
  return value;
}

void Rewriter::commit() {
  std::vector<Node> result;
  result.reserve(nodes_.size());
  const auto append = [&](Node& node) {
    for (Operand& operand : node.inputs) operand.value = resolve(operand.value);
    result.push_back(std::move(node));
  };
  for (size_t i = 0; i < nodes_.size(); ++i) {
    for (Node& node : inserted_[i]) append(node);
    if (!removed_[i]) append(nodes_[i]);
  }
  std::vector<graph::GraphOutput> outputs = graph_.outputs();
  for (graph::GraphOutput& output : outputs) output.value = resolve(output.value);
  graph_.set_nodes(std::move(result));
  graph_.set_outputs(std::move(outputs));
}

std::optional<std::vector<graph::TypedOperand>> accepted_outputs(const graph::Graph& graph,
                                                                 const Node& node,
                                                                 const HasKernel& has_kernel) {
  const std::vector<graph::TypedOperand> in = graph.typed_inputs(node);
  std::vector<graph::TypedOperand> out;
  try {
    out = infer_outputs(node.attrs, in);
  } catch (const Error&) {
    return std::nullopt;
  }
  return has_kernel({node.attrs, in, out}) ? std::optional(std::move(out)) : std::nullopt;
}

std::optional<size_t> product_behind(const Rewriter& rewriter, ValueId x) {
  auto from = rewriter.producer(x);
  while (from && std::holds_alternative<graph::Reshape>(rewriter.node(*from).attrs)) {
    from = rewriter.producer(Rewriter::operand(rewriter.node(*from), graph::Role::kX));
  }
  if (!from) return std::nullopt;
  const graph::OpAttrs& attrs = rewriter.node(*from).attrs;
  const bool is_product =
      std::holds_alternative<graph::Linear>(attrs) || std::holds_alternative<graph::Conv2d>(attrs);
  return is_product ? from : std::nullopt;
}

void read_description(Rewriter& rewriter, size_t reader, graph::Role role, size_t maker,
                      const graph::OpAttrs& describing, std::string_view suffix,
                      const HasKernel& has_kernel) {
  graph::Graph& graph = rewriter.graph();
  Node product = rewriter.node(maker);
  if (product.attrs != describing) {  // else it was asked for another reader
    if (product.outputs.size() != 1) return;
    product.attrs = describing;
    const auto outputs = accepted_outputs(graph, product, has_kernel);
    if (!outputs) return;
    product.outputs.push_back(graph.new_value(product.name + std::string(suffix),
                                              (*outputs)[1].type,
                                              graph.value(product.outputs[0]).rate));
  }
  Node reading = rewriter.node(reader);
  reading.inputs.push_back({role, product.outputs[1]});
  if (!accepted_outputs(graph, reading, has_kernel)) return;
  rewriter.node(maker) = std::move(product);
  rewriter.node(reader) = std::move(reading);
}

void drop_dead_nodes(graph::Graph& graph) {
  Rewriter rewriter(graph);
  for (size_t i = rewriter.num_nodes(); i-- > 0;) {
    bool used = false;
    for (const ValueId id : rewriter.node(i).outputs) used = used || rewriter.num_uses(id) > 0;
    if (!used) rewriter.remove(i);
  }
  rewriter.commit();
}

}  // namespace halftone::compile
