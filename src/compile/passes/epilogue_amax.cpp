// A quantization with a dynamic scale per tensor reads the largest magnitudes of its input from the
// linear or convolution that makes it (graph/ops/quantize.h), where the device has kernels for both
// sides: it reads the input once.
#include "compile/compile.h"
#include "compile/rewrite.h"

namespace halftone::compile {
namespace {

using graph::Role;

void measure_input(Rewriter& rewriter, size_t index, const HasKernel& has_kernel) {
  const graph::Node& quantize = rewriter.node(index);
  const auto* op = std::get_if<graph::Quantize>(&quantize.attrs);
  if (op == nullptr || !op->dynamic || op->granularity != graph::Granularity::kPerTensor ||
      Rewriter::operand(quantize, Role::kAmax) != graph::kNoValue) {
    return;
  }
  // Of rows that are counted as the product's are.
  const graph::ValueId x = Rewriter::operand(quantize, Role::kX);
  const auto maker = product_behind(rewriter, x);
  if (!maker) return;
  const graph::Graph& graph = rewriter.graph();
  const graph::Node& product = rewriter.node(*maker);
  if (graph.type(product.outputs[0]).shape.row_size() != graph.type(x).shape.row_size()) return;
  graph::OpAttrs measured = product.attrs;
  if (auto* conv = std::get_if<graph::Conv2d>(&measured)) conv->amax = true;
  if (auto* linear = std::get_if<graph::Linear>(&measured)) linear->amax = true;
  read_description(rewriter, index, Role::kAmax, *maker, measured, ".amax", has_kernel);
}

void run(graph::Graph& graph, const HasKernel& has_kernel) {
  Rewriter rewriter(graph);
  for (size_t i = 0; i < rewriter.num_nodes(); ++i) measure_input(rewriter, i, has_kernel);
  rewriter.commit();
}

}  // namespace

extern const Pass kPass_epilogue_amax;
const Pass kPass_epilogue_amax{"epilogue_amax", "what makes a quantization's input measures it",
                               true, nullptr, run};

}  // namespace halftone::compile
