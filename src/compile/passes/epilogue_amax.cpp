// A quantization with a dynamic scale per tensor reads the largest magnitudes of its input from the
// linear or convolution that makes it (graph/ops/quantize.h), where the device has kernels for both
// sides: it reads the input once.
#include "compile/compile.h"
#include "compile/rewrite.h"

namespace halftone::compile {
namespace {

using graph::Graph;
using graph::Node;
using graph::Role;
using graph::ValueId;

// Whether a linear or convolution makes amax; null for other ops.
bool* makes_amax(Node& node) {
  if (auto* conv = std::get_if<graph::Conv2d>(&node.attrs)) return &conv->amax;
  if (auto* linear = std::get_if<graph::Linear>(&node.attrs)) return &linear->amax;
  return nullptr;
}

class Measurer {
 public:
  Measurer(Graph& graph, const HasKernel& has_kernel)
      : graph_(graph), rewriter_(graph), has_kernel_(has_kernel) {}

  void run() {
    for (size_t i = 0; i < rewriter_.num_nodes(); ++i) measure_input(i);
    rewriter_.commit();
  }

 private:
  void measure_input(size_t index) {
    Node quantize = rewriter_.node(index);
    const auto* op = std::get_if<graph::Quantize>(&quantize.attrs);
    if (op == nullptr || !op->dynamic || op->granularity != graph::Granularity::kPerTensor ||
        Rewriter::operand(quantize, Role::kAmax) != graph::kNoValue) {
      return;
    }
    const auto writer = writer_of(Rewriter::operand(quantize, Role::kX));
    if (!writer) return;
    Node measured = rewriter_.node(*writer);
    bool& is_measured = *makes_amax(measured);
    if (!is_measured) {  // else for another quantization of it
      if (measured.outputs.size() != 1) return;
      is_measured = true;
      const auto outputs = accepted_outputs(graph_, measured, has_kernel_);
      if (!outputs) return;
      measured.outputs.push_back(graph_.new_value(measured.name + ".amax", (*outputs)[1].type,
                                                  graph_.value(measured.outputs[0]).rate));
    }
    quantize.inputs.push_back({Role::kAmax, measured.outputs[1]});
    if (!accepted_outputs(graph_, quantize, has_kernel_)) return;
    rewriter_.node(*writer) = std::move(measured);
    rewriter_.node(index) = std::move(quantize);
  }

  // What writes x, perhaps in rows that are counted otherwise.
  std::optional<size_t> writer_of(ValueId x) {
    const Shape rows = graph_.type(x).shape;
    auto from = rewriter_.producer(x);
    while (from && std::holds_alternative<graph::Reshape>(rewriter_.node(*from).attrs)) {
      from = rewriter_.producer(Rewriter::operand(rewriter_.node(*from), Role::kX));
    }
    if (!from || makes_amax(rewriter_.node(*from)) == nullptr) return std::nullopt;
    const Shape& written = graph_.type(rewriter_.node(*from).outputs[0]).shape;
    return written.row_size() == rows.row_size() ? from : std::nullopt;
  }

  Graph& graph_;
  Rewriter rewriter_;
  const HasKernel& has_kernel_;
};

void run(Graph& graph, const HasKernel& has_kernel) { Measurer(graph, has_kernel).run(); }

}  // namespace

extern const Pass kPass_epilogue_amax;
const Pass kPass_epilogue_amax{"epilogue_amax", "what makes a quantization's input measures it",
                               true, nullptr, run};

}  // namespace halftone::compile
