// group_norm followed by its only user, an activation, becomes one node.
#include "compile/compile.h"
#include "compile/rewrite.h"

namespace halftone::compile {
namespace {

using graph::Node;

void run(graph::Graph& graph) {
  Rewriter rewriter(graph);
  for (size_t i = 0; i < rewriter.num_nodes(); ++i) {
    const auto* unary = std::get_if<graph::Unary>(&rewriter.node(i).attrs);
    if (unary == nullptr) continue;
    const graph::ValueId x = rewriter.node(i).inputs[0].value;
    const auto from = rewriter.producer(x);
    if (!from || rewriter.num_uses(x) != 1) continue;
    Node fused = rewriter.node(*from);
    auto* norm = std::get_if<graph::GroupNorm>(&fused.attrs);
    if (norm == nullptr || norm->activation != graph::Activation::kNone) continue;
    norm->activation = unary->activation;
    fused.outputs = rewriter.node(i).outputs;
    rewriter.fuse(*from, i, std::move(fused));
  }
  rewriter.commit();
}

}  // namespace

extern const Pass kPass_fuse_norm_activation;
const Pass kPass_fuse_norm_activation{"fuse_norm_activation", "group norm applies its activation",
                                      false, run};

}  // namespace halftone::compile
