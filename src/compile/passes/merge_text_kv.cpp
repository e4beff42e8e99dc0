// Keys and values of the text, which every layer computes once per prompt from the same states:
// the linears of several layers become one with stacked weights, so that few large launches read
// the weights instead of many small ones. Their slices are pitched views.
#include <algorithm>
#include <utility>
#include <vector>

#include "compile/compile.h"
#include "compile/stack_linears.h"

namespace halftone::compile {
namespace {

using graph::Node;
using graph::Role;

// While weights are loaded, a stack needs its parts and the whole.
constexpr size_t kMostBytes = size_t{64} << 20;

struct Group {
  std::vector<StackMember> members;
  size_t bytes = 0;
};

// Key and value linears of the attention at `i`, if they are computed less often than it; or none.
std::vector<StackMember> keys_and_values(Rewriter& rewriter, size_t i) {
  const Node& node = rewriter.node(i);
  if (!std::holds_alternative<graph::Attention>(node.attrs)) return {};
  const auto k = stackable(rewriter, Rewriter::operand(node, Role::kK));
  const auto v = stackable(rewriter, Rewriter::operand(node, Role::kV));
  if (!k || !v || k->node == v->node || !stack_together(rewriter, *k, *v)) return {};
  const graph::Graph& graph = rewriter.graph();
  if (graph.value(k->value).rate >= graph.value(node.outputs[0]).rate) return {};
  return {*k, *v};
}

// Of at least two attentions each; one attention's are merge_qkv's.
std::vector<Group> groups_of(Rewriter& rewriter) {
  std::vector<Group> groups;
  for (size_t i = 0; i < rewriter.num_nodes(); ++i) {
    const std::vector<StackMember> pair = keys_and_values(rewriter, i);
    if (pair.empty()) continue;
    const size_t bytes = weight_bytes(rewriter, pair[0]) + weight_bytes(rewriter, pair[1]);
    const auto group = std::ranges::find_if(groups, [&](const Group& g) {
      return g.bytes + bytes <= kMostBytes && stack_together(rewriter, g.members[0], pair[0]);
    });
    Group& into = group == groups.end() ? groups.emplace_back() : *group;
    into.members.insert(into.members.end(), pair.begin(), pair.end());
    into.bytes += bytes;
  }
  std::erase_if(groups, [](const Group& group) { return group.members.size() == 2; });
  return groups;
}

// A stack takes the place of its first member, where weights of the later ones must be known. A
// node runs at the highest rate of its inputs, so ordering by rate keeps producers first.
void order_by_rate(graph::Graph& graph) {
  std::vector<Node> nodes = graph.nodes();
  std::ranges::stable_sort(nodes, {},
                           [&](const Node& node) { return graph.value(node.outputs[0]).rate; });
  graph.set_nodes(std::move(nodes));
}

void run(graph::Graph& graph) {
  Rewriter unordered(graph);
  if (groups_of(unordered).empty()) return;
  order_by_rate(graph);
  Rewriter rewriter(graph);
  for (const Group& group : groups_of(rewriter)) {
    const auto first = std::ranges::min_element(group.members, {}, &StackMember::node);
    const std::string& name = rewriter.node(first->node).name;
    stack_linears(rewriter, group.members, first->node,
                  name.substr(0, name.rfind('.')) + ".merged_text_kv");
  }
  rewriter.commit();
}

}  // namespace

extern const Pass kPass_merge_text_kv;
const Pass kPass_merge_text_kv{"merge_text_kv", "one linear for the text's k and v of many layers",
                               true, run};

}  // namespace halftone::compile
