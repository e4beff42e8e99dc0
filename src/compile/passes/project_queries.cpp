// The linear that makes an attention's queries becomes part of it (graph/ops/attention.h), so that
// they need not be written and read again. Only where the device has a kernel for that, which is
// for the few keys of a text. Behind fold_quantize, when what is multiplied is known to be codes or
// values; a linear that fold_layer_norm gave row statistics is left alone.
#include <algorithm>
#include <utility>

#include "compile/compile.h"
#include "compile/rewrite.h"

namespace halftone::compile {
namespace {

using graph::Node;
using graph::Operand;
using graph::Role;
using graph::ValueId;

// Products and their scales, nothing before or behind them.
bool is_plain(const Node& node) {
  const auto* linear = std::get_if<graph::Linear>(&node.attrs);
  if (linear == nullptr) return false;
  graph::Linear plain;
  plain.out = linear->out;
  return *linear == plain && std::ranges::all_of(node.inputs, [](const Operand& operand) {
    return graph::is_of_query_linear(operand.role);
  });
}

// The attention at `index` with the linear behind its queries as part of it.
void fuse_linear(Rewriter& rewriter, size_t index, const HasKernel& has_kernel) {
  Node attention = rewriter.node(index);
  const ValueId q = Rewriter::operand(attention, Role::kQ);
  if (q == graph::kNoValue || rewriter.num_uses(q) != 1) return;
  const auto from = rewriter.producer(q);
  if (!from || !is_plain(rewriter.node(*from))) return;
  const graph::Graph& graph = rewriter.graph();
  if (graph.value(q).rate != graph.value(attention.outputs[0]).rate) return;
  std::erase_if(attention.inputs, [](const Operand& operand) { return operand.role == Role::kQ; });
  const std::vector<Operand>& products = rewriter.node(*from).inputs;
  attention.inputs.insert(attention.inputs.begin(), products.begin(), products.end());
  if (!accepted_outputs(graph, attention, has_kernel)) return;
  rewriter.fuse(*from, index, std::move(attention));
}

void run(graph::Graph& graph, const HasKernel& has_kernel) {
  Rewriter rewriter(graph);
  for (size_t i = 0; i < rewriter.num_nodes(); ++i) {
    if (std::holds_alternative<graph::Attention>(rewriter.node(i).attrs)) {
      fuse_linear(rewriter, i, has_kernel);
    }
  }
  rewriter.commit();
}

}  // namespace

extern const Pass kPass_project_queries;
const Pass kPass_project_queries{"project_queries",
                                 "the linear of an attention's queries becomes part of it", true,
                                 nullptr, run};

}  // namespace halftone::compile
