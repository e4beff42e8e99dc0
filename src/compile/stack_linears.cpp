#include "compile/stack_linears.h"

#include <utility>

namespace halftone::compile {
namespace {

using graph::Node;
using graph::Role;
using graph::ValueId;

// The type of a quantized weight's codes, or null.
const TensorType* codes_of(Rewriter& rewriter, const Node& linear) {
  const auto from = rewriter.producer(Rewriter::operand(linear, Role::kWeight));
  if (!from || !std::holds_alternative<graph::Dequantize>(rewriter.node(*from).attrs)) {
    return nullptr;
  }
  return &rewriter.graph().type(Rewriter::operand(rewriter.node(*from), Role::kX));
}

// Codes of one width can be stacked; others would stay a simulation.
bool codes_agree(Rewriter& rewriter, const Node& x, const Node& y) {
  const TensorType* a = codes_of(rewriter, x);
  const TensorType* b = codes_of(rewriter, y);
  if (a == nullptr || b == nullptr) return a == b;
  return a->dtype == b->dtype && a->shape[-1] == b->shape[-1];
}

// The members' operands of a role, one above the other; the node goes to `fresh`.
ValueId stack(Rewriter& rewriter, const std::vector<StackMember>& members, Role role,
              const std::string& name, std::vector<Node>& fresh) {
  graph::Graph& graph = rewriter.graph();
  Node node{graph::Concat{0}, {}, {}, name};
  for (const StackMember& member : members) {
    node.inputs.push_back({Role::kX, Rewriter::operand(rewriter.node(member.node), role)});
  }
  const TensorType type = infer_types(node.attrs, graph.typed_inputs(node))[0];
  node.outputs = {graph.new_value(name, type, graph::Rate::kLoad)};
  fresh.push_back(node);
  return node.outputs[0];
}

// Whether both results stay values, or go through codes of one type and scale.
bool results_agree(const Rewriter& rewriter, const StackMember& a, const StackMember& b) {
  if (!a.codes || !b.codes) return a.codes.has_value() == b.codes.has_value();
  const Node& x = rewriter.node(a.codes->quantize);
  const Node& y = rewriter.node(b.codes->quantize);
  return x.attrs == y.attrs &&
         Rewriter::operand(x, Role::kXScale) == Rewriter::operand(y, Role::kXScale);
}

// The whole of a stack's result as codes, as a member's are made.
Node quantized(graph::Graph& graph, Node member, ValueId whole, const std::string& name) {
  for (graph::Operand& operand : member.inputs) {
    if (operand.role == Role::kX) operand.value = whole;
  }
  const TensorType type{graph.type(member.outputs[0]).dtype, graph.type(whole).shape};
  member.name = name;
  member.outputs = {graph.new_value(name, type, graph.value(whole).rate)};
  return member;
}

}  // namespace

std::optional<StackMember> stackable(Rewriter& rewriter, ValueId value) {
  const auto from = rewriter.producer(value);
  if (!from || rewriter.num_uses(value) != 1) return std::nullopt;
  const Node& node = rewriter.node(*from);
  if (node.attrs != graph::OpAttrs(graph::Linear{})) return std::nullopt;
  if (Rewriter::operand(node, Role::kRowAdd) != graph::kNoValue ||
      Rewriter::operand(node, Role::kResidual) != graph::kNoValue) {
    return std::nullopt;
  }
  return StackMember{*from, value};
}

std::optional<StackMember> stackable_codes(Rewriter& rewriter, ValueId value) {
  const auto back = rewriter.producer(value);
  if (!back || rewriter.num_uses(value) != 1) return std::nullopt;
  const Node& dequantize = rewriter.node(*back);
  const ValueId codes = Rewriter::operand(dequantize, Role::kX);
  if (!std::holds_alternative<graph::Dequantize>(dequantize.attrs)) return std::nullopt;
  const auto from = rewriter.producer(codes);
  if (!from || rewriter.num_uses(codes) != 1) return std::nullopt;
  const Node& quantize = rewriter.node(*from);
  const auto* op = std::get_if<graph::Quantize>(&quantize.attrs);
  // One known scale for all elements: the codes of the whole are those of its parts.
  if (op == nullptr || op->dynamic || op->granularity != graph::Granularity::kPerTensor ||
      Rewriter::operand(quantize, Role::kGamma) != graph::kNoValue ||
      Rewriter::operand(quantize, Role::kXZero) != graph::kNoValue) {
    return std::nullopt;
  }
  auto member = stackable(rewriter, Rewriter::operand(quantize, Role::kX));
  if (member) member->codes = {*from, *back};
  return member;
}

bool stack_together(Rewriter& rewriter, const StackMember& a, const StackMember& b) {
  const Node& x = rewriter.node(a.node);
  const Node& y = rewriter.node(b.node);
  const auto type = [&](const Node& node, Role role) -> const TensorType* {
    const ValueId id = Rewriter::operand(node, role);
    return id == graph::kNoValue ? nullptr : &rewriter.graph().type(id);
  };
  const bool biases_agree = (type(x, Role::kBias) == nullptr) == (type(y, Role::kBias) == nullptr);
  return Rewriter::operand(x, Role::kX) == Rewriter::operand(y, Role::kX) && biases_agree &&
         type(x, Role::kWeight)->dtype == type(y, Role::kWeight)->dtype &&
         codes_agree(rewriter, x, y) && results_agree(rewriter, a, b);
}

size_t weight_bytes(Rewriter& rewriter, const StackMember& member) {
  const Node& linear = rewriter.node(member.node);
  const TensorType* codes = codes_of(rewriter, linear);
  const TensorType& type =
      codes != nullptr ? *codes : rewriter.graph().type(Rewriter::operand(linear, Role::kWeight));
  return static_cast<size_t>(type.shape.num_elements()) * size_of(type.dtype);
}

void stack_linears(Rewriter& rewriter, const std::vector<StackMember>& members, size_t before,
                   const std::string& name) {
  graph::Graph& graph = rewriter.graph();
  const Node model = rewriter.node(members.front().node);
  std::vector<Node> fresh;
  const ValueId x = Rewriter::operand(model, Role::kX);
  const ValueId weight = stack(rewriter, members, Role::kWeight, name, fresh);
  Node linear{graph::Linear{}, {{Role::kX, x}, {Role::kWeight, weight}}, {}, name};
  if (Rewriter::operand(model, Role::kBias) != graph::kNoValue) {
    linear.inputs.push_back({Role::kBias, stack(rewriter, members, Role::kBias, name, fresh)});
  }
  const graph::Rate rate = graph.value(model.outputs[0]).rate;
  linear.outputs = {
      graph.new_value(name, infer_types(linear.attrs, graph.typed_inputs(linear))[0], rate)};
  ValueId merged = linear.outputs[0];
  fresh.push_back(std::move(linear));
  if (const auto& codes = members.front().codes) {
    fresh.push_back(quantized(graph, rewriter.node(codes->quantize), merged, name + "_quantizer"));
    merged = fresh.back().outputs[0];
  }
  int64_t begin = 0;
  for (const StackMember& member : members) {
    const int64_t width = graph.type(member.value).shape[-1];
    const ValueId part =
        member.codes ? rewriter.node(member.codes->quantize).outputs[0] : member.value;
    fresh.push_back({graph::Slice{-1, begin, begin + width},
                     {{Role::kX, merged}},
                     {part},
                     rewriter.node(member.node).name});
    if (member.codes) fresh.push_back(rewriter.node(member.codes->dequantize));
    begin += width;
  }
  for (const StackMember& member : members) {
    rewriter.remove(member.node);
    if (!member.codes) continue;
    rewriter.remove(member.codes->quantize);
    rewriter.remove(member.codes->dequantize);
  }
  rewriter.insert_before(before, std::move(fresh));
}

}  // namespace halftone::compile
