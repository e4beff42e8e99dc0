// Linears that read one input and feed one attention (q, k, v; or k, v of the text) become one
// linear with stacked weights; its slices are pitched views. Where they reach the attention as
// codes of one static scale, the whole is quantized before it is sliced, so that fold_quantize may
// let the linear end in codes.
#include <algorithm>

#include "compile/compile.h"
#include "compile/stack_linears.h"

namespace halftone::compile {
namespace {

using graph::Node;
using graph::Role;

void merge(Rewriter& rewriter, std::vector<StackMember> members) {
  std::ranges::sort(members, {}, &StackMember::node);
  const size_t last = members.back().node;
  const std::string& name = rewriter.node(last).name;
  stack_linears(rewriter, members, last, name.substr(0, name.rfind('.')) + ".merged_qkv");
}

// The linear behind an operand of an attention.
std::optional<StackMember> behind(Rewriter& rewriter, const Node& attention, Role role) {
  const graph::ValueId value = Rewriter::operand(attention, role);
  const auto member = stackable(rewriter, value);
  return member ? member : stackable_codes(rewriter, value);
}

void run(graph::Graph& graph) {
  Rewriter rewriter(graph);
  for (size_t i = 0; i < rewriter.num_nodes(); ++i) {
    const Node& node = rewriter.node(i);
    if (!std::holds_alternative<graph::Attention>(node.attrs)) continue;
    const auto k = behind(rewriter, node, Role::kK);
    const auto v = behind(rewriter, node, Role::kV);
    if (!k || !v || k->node == v->node || !stack_together(rewriter, *k, *v)) continue;
    const auto q = behind(rewriter, node, Role::kQ);
    const bool all = q && stack_together(rewriter, *q, *k) && q->node != k->node;
    merge(rewriter, all ? std::vector<StackMember>{*q, *k, *v} : std::vector<StackMember>{*k, *v});
  }
  rewriter.commit();
}

}  // namespace

extern const Pass kPass_merge_qkv;
const Pass kPass_merge_qkv{"merge_qkv", "one linear for q, k and v of an attention", true, run};

}  // namespace halftone::compile
