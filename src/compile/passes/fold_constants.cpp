// Evaluates nodes whose operands are all literals, on the reference.
#include <utility>

#include "compile/compile.h"
#include "compile/rewrite.h"
#include "reference/reference.h"

namespace halftone::compile {
namespace {

// Literals are stored in the plan: larger results stay nodes of the load stage.
constexpr size_t kMaxLiteralBytes = size_t{1} << 20;

bool is_literal(const graph::Value& value) {
  return value.constant.has_value() && value.constant->literal != nullptr;
}

void run(graph::Graph& graph) {
  bool changed = true;
  while (changed) {
    changed = false;
    Rewriter rewriter(graph);
    for (size_t i = 0; i < rewriter.num_nodes(); ++i) {
      const graph::Node& node = rewriter.node(i);
      std::vector<TensorView> inputs;
      for (const graph::Operand& operand : node.inputs) {
        const graph::Value& value = graph.value(operand.value);
        if (!is_literal(value)) break;
        inputs.push_back(value.constant->literal->view());
      }
      const TensorType type = graph.type(node.outputs[0]);
      if (inputs.size() != node.inputs.size() || node.outputs.size() != 1 ||
          type.num_bytes() > kMaxLiteralBytes)
        continue;
      Tensor result(type);
      const std::vector<graph::TypedOperand> in = graph.typed_inputs(node);
      const std::vector<graph::TypedOperand> out = graph.typed_outputs(node);
      const TensorView views[] = {result.view()};
      reference::run_op({node.attrs, in, out}, inputs, views);
      const graph::ValueId literal = graph.add_literal(node.name, std::move(result));
      rewriter.replace(node.outputs[0], literal);
      rewriter.remove(i);
      changed = true;
    }
    rewriter.commit();
  }
}

}  // namespace

extern const Pass kPass_fold_constants;
const Pass kPass_fold_constants{"fold_constants", "evaluates nodes of literals while building",
                                true, run};

}  // namespace halftone::compile
