// linear and conv2d take over what follows them, in the one order that epilogues have:
// + bias, + row add, activation or GEGLU, + residual.
#include <optional>

#include "compile/compile.h"
#include "compile/rewrite.h"

namespace halftone::compile {
namespace {

using graph::Activation;
using graph::Node;
using graph::Role;
using graph::ValueId;

bool is_matrix_op(const Node& node) {
  return std::holds_alternative<graph::Linear>(node.attrs) ||
         std::holds_alternative<graph::Conv2d>(node.attrs);
}

Activation& activation_of(Node& node) {
  if (auto* linear = std::get_if<graph::Linear>(&node.attrs)) return linear->activation;
  return std::get<graph::Conv2d>(node.attrs).activation;
}

bool has_geglu(const Node& node) {
  const auto* linear = std::get_if<graph::Linear>(&node.attrs);
  return linear != nullptr && linear->geglu;
}

bool has(const Node& node, Role role) { return Rewriter::operand(node, role) != graph::kNoValue; }

// The matrix op that alone makes `value` for a reader of the same rate, or nothing.
std::optional<size_t> sole_producer(Rewriter& rewriter, ValueId value, const Node& reader) {
  const auto from = rewriter.producer(value);
  if (!from || rewriter.num_uses(value) != 1 || !is_matrix_op(rewriter.node(*from)))
    return std::nullopt;
  const graph::Graph& graph = rewriter.graph();
  if (graph.value(value).rate != graph.value(reader.outputs[0]).rate) return std::nullopt;
  return from;
}

void fuse_activation(Rewriter& rewriter, size_t index, Activation activation) {
  const Node& node = rewriter.node(index);
  const auto from = sole_producer(rewriter, node.inputs[0].value, node);
  if (!from) return;
  Node fused = rewriter.node(*from);
  if (activation_of(fused) != Activation::kNone || has_geglu(fused) || has(fused, Role::kResidual))
    return;
  activation_of(fused) = activation;
  fused.outputs = node.outputs;
  rewriter.fuse(*from, index, std::move(fused));
}

void fuse_geglu(Rewriter& rewriter, size_t index) {
  const Node& node = rewriter.node(index);
  const auto from = sole_producer(rewriter, node.inputs[0].value, node);
  if (!from) return;
  Node fused = rewriter.node(*from);
  auto* linear = std::get_if<graph::Linear>(&fused.attrs);
  if (linear == nullptr || linear->geglu || linear->activation != Activation::kNone ||
      has(fused, Role::kResidual)) {
    return;
  }
  linear->geglu = true;
  fused.outputs = node.outputs;
  rewriter.fuse(*from, index, std::move(fused));
}

// y = op(...) + other, where op is the operand at `side`.
bool fuse_add(Rewriter& rewriter, size_t index, size_t side) {
  const Node& node = rewriter.node(index);
  const ValueId own = node.inputs[side].value;
  const ValueId other = node.inputs[1 - side].value;
  const auto from = sole_producer(rewriter, own, node);
  if (!from) return false;
  const graph::Graph& graph = rewriter.graph();
  const bool same_type = graph.type(own) == graph.type(other);
  Node fused = rewriter.node(*from);
  if (same_type) {
    if (has(fused, Role::kResidual)) return false;
    fused.inputs.push_back({Role::kResidual, other});
  } else {
    const bool is_row = side == 0 && graph.type(other).shape.rank() == 2;
    if (!is_row || has(fused, Role::kRowAdd) || has(fused, Role::kResidual) || has_geglu(fused) ||
        activation_of(fused) != Activation::kNone) {
      return false;
    }
    fused.inputs.push_back({Role::kRowAdd, other});
  }
  fused.outputs = node.outputs;
  rewriter.fuse(*from, index, std::move(fused));
  return true;
}

void run(graph::Graph& graph) {
  Rewriter rewriter(graph);
  for (size_t i = 0; i < rewriter.num_nodes(); ++i) {
    if (rewriter.is_removed(i)) continue;
    const Node& node = rewriter.node(i);
    if (const auto* unary = std::get_if<graph::Unary>(&node.attrs)) {
      fuse_activation(rewriter, i, unary->activation);
    } else if (std::holds_alternative<graph::Geglu>(node.attrs)) {
      fuse_geglu(rewriter, i);
    } else if (const auto* add = std::get_if<graph::Add>(&node.attrs)) {
      if (add->broadcast_batch) continue;
      // Prefer the later producer: the earlier one is then a plain operand.
      const auto a = rewriter.producer(node.inputs[0].value);
      const auto b = rewriter.producer(node.inputs[1].value);
      const size_t first = b && (!a || *b > *a) ? 1 : 0;
      if (!fuse_add(rewriter, i, first)) fuse_add(rewriter, i, 1 - first);
    }
  }
  rewriter.commit();
}

}  // namespace

extern const Pass kPass_fuse_epilogue;
const Pass kPass_fuse_epilogue{
    "fuse_epilogue", "bias, row add, activation, GEGLU and residual join linear and conv2d", false,
    run};

}  // namespace halftone::compile
