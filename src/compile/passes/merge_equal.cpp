// Computes equal things once: constants of one source and nodes with equal attributes and operands.
#include <map>
#include <string>
#include <utility>

#include "compile/compile.h"
#include "compile/rewrite.h"

namespace halftone::compile {
namespace {

using graph::Node;
using graph::ValueId;

void run(graph::Graph& graph) {
  std::vector<ValueId> representative(graph.values().size());
  std::map<std::string, ValueId> seen;
  for (ValueId id = 0; id < graph.values().size(); ++id) {
    representative[id] = id;
    const graph::Value& value = graph.value(id);
    if (!value.constant || value.constant->weight.empty()) continue;
    const std::string key = value.constant->weight + " " + to_string(value.type);
    representative[id] = seen.emplace(key, id).first->second;
  }
  Rewriter rewriter(graph);
  for (size_t i = 0; i < rewriter.num_nodes(); ++i) {
    Node& node = rewriter.node(i);
    std::string key = print_attrs(node.attrs);
    for (graph::Operand& operand : node.inputs) {
      operand.value = representative[operand.value];
      key += ' ';
      key += to_string(operand.role);
      key += std::to_string(operand.value);
    }
    const auto [it, fresh] = seen.emplace(std::move(key), node.outputs[0]);
    if (fresh) continue;
    // All outputs of equal nodes are equal, in their order.
    const std::vector<ValueId>& equal = rewriter.node(*rewriter.producer(it->second)).outputs;
    for (size_t k = 0; k < equal.size(); ++k) {
      representative[node.outputs[k]] = equal[k];
      rewriter.replace(node.outputs[k], equal[k]);
    }
    rewriter.remove(i);
  }
  rewriter.commit();
}

}  // namespace

extern const Pass kPass_merge_equal;
const Pass kPass_merge_equal{"merge_equal", "computes equal nodes once", true, run};

}  // namespace halftone::compile
