// subpixel_merge of a convolution that nobody else reads: where the device has a kernel that stores
// its results in place, no copy is made.
#include "compile/compile.h"
#include "compile/rewrite.h"

namespace halftone::compile {
namespace {

using graph::Node;
using graph::Role;

bool is_wanted(const Node& node) {
  const auto* conv = std::get_if<graph::Conv2d>(&node.attrs);
  return conv != nullptr && !conv->interleaved &&
         Rewriter::operand(node, Role::kRowAdd) == graph::kNoValue &&
         Rewriter::operand(node, Role::kResidual) == graph::kNoValue;
}

void run(graph::Graph& graph, const HasKernel& has_kernel) {
  Rewriter rewriter(graph);
  for (size_t i = 0; i < rewriter.num_nodes(); ++i) {
    if (!std::holds_alternative<graph::SubpixelMerge>(rewriter.node(i).attrs)) continue;
    const graph::ValueId x = rewriter.node(i).inputs[0].value;
    const auto from = rewriter.producer(x);
    if (!from || rewriter.num_uses(x) != 1 || !is_wanted(rewriter.node(*from))) continue;
    Node fused = rewriter.node(*from);
    std::get<graph::Conv2d>(fused.attrs).interleaved = true;
    fused.outputs = rewriter.node(i).outputs;
    const auto inputs = graph.typed_inputs(fused);
    const auto outputs = graph.typed_outputs(fused);
    if (!has_kernel({fused.attrs, inputs, outputs})) continue;
    rewriter.fuse(*from, i, std::move(fused));
  }
  rewriter.commit();
}

}  // namespace

extern const Pass kPass_store_interleaved;
const Pass kPass_store_interleaved{
    "store_interleaved", "a sub-pixel convolution stores its results in place", true, nullptr, run};

}  // namespace halftone::compile
