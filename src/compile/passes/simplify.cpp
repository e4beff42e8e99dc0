// Removes layout changes that do nothing: equal reshapes and casts, transposes that undo each
// other, and chains of reshapes.
#include "compile/compile.h"
#include "compile/rewrite.h"

namespace halftone::compile {
namespace {

using graph::Node;
using graph::Role;
using graph::ValueId;

bool is_identity(const std::vector<int64_t>& perm) {
  for (size_t i = 0; i < perm.size(); ++i) {
    if (perm[i] != static_cast<int64_t>(i)) return false;
  }
  return true;
}

void simplify_node(Rewriter& rewriter, size_t index) {
  Node& node = rewriter.node(index);
  const bool moves = std::holds_alternative<graph::Reshape>(node.attrs) ||
                     std::holds_alternative<graph::Cast>(node.attrs) ||
                     std::holds_alternative<graph::Transpose>(node.attrs);
  if (!moves) return;
  const ValueId x = Rewriter::operand(node, Role::kX);
  const auto from = rewriter.producer(x);
  if (from) {
    const Node& before = rewriter.node(*from);
    const ValueId source = Rewriter::operand(before, Role::kX);
    if (std::holds_alternative<graph::Reshape>(node.attrs) &&
        std::holds_alternative<graph::Reshape>(before.attrs)) {
      node.inputs[0].value = source;
    } else if (const auto* second = std::get_if<graph::Transpose>(&node.attrs)) {
      if (const auto* first = std::get_if<graph::Transpose>(&before.attrs)) {
        std::vector<int64_t> perm;
        for (const int64_t axis : second->perm)
          perm.push_back(first->perm[static_cast<size_t>(axis)]);
        node.attrs = graph::Transpose{std::move(perm)};
        node.inputs[0].value = source;
      }
    }
  }
  const ValueId input = Rewriter::operand(node, Role::kX);
  const auto* transpose = std::get_if<graph::Transpose>(&node.attrs);
  const bool nothing = transpose != nullptr
                           ? is_identity(transpose->perm)
                           : rewriter.graph().type(input) == rewriter.graph().type(node.outputs[0]);
  if (nothing) {
    rewriter.replace(node.outputs[0], input);
    rewriter.remove(index);
  }
}

void run(graph::Graph& graph) {
  // Replacements take effect on commit, so repeat until a round removes nothing.
  for (size_t before = graph.nodes().size() + 1; graph.nodes().size() < before;) {
    before = graph.nodes().size();
    Rewriter rewriter(graph);
    for (size_t i = 0; i < rewriter.num_nodes(); ++i) simplify_node(rewriter, i);
    rewriter.commit();
    drop_dead_nodes(graph);
  }
}

}  // namespace

extern const Pass kPass_simplify;
const Pass kPass_simplify{"simplify", "drops reshapes, casts and transposes that do nothing", true,
                          run};

}  // namespace halftone::compile
