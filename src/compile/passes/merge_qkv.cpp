// Linears that read one input and feed one attention (q, k, v; or k, v of the text) become one
// linear with stacked weights; its slices are pitched views.
#include <algorithm>
#include <array>
#include <utility>

#include "compile/compile.h"
#include "compile/rewrite.h"

namespace halftone::compile {
namespace {

using graph::Node;
using graph::Operand;
using graph::Role;
using graph::ValueId;

struct Member {
  size_t node;    // the linear
  ValueId value;  // its output
};

bool is_plain_linear(Rewriter& rewriter, ValueId value, Member& member) {
  const auto from = rewriter.producer(value);
  if (!from || rewriter.num_uses(value) != 1) return false;
  const Node& node = rewriter.node(*from);
  if (node.attrs != graph::OpAttrs(graph::Linear{})) return false;
  if (Rewriter::operand(node, Role::kRowAdd) != graph::kNoValue ||
      Rewriter::operand(node, Role::kResidual) != graph::kNoValue) {
    return false;
  }
  member = {*from, value};
  return true;
}

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

bool mergeable(Rewriter& rewriter, const Member& a, const Member& b) {
  const Node& x = rewriter.node(a.node);
  const Node& y = rewriter.node(b.node);
  const auto type = [&](const Node& node, Role role) -> const TensorType* {
    const ValueId id = Rewriter::operand(node, role);
    return id == graph::kNoValue ? nullptr : &rewriter.graph().type(id);
  };
  const bool biases_agree = (type(x, Role::kBias) == nullptr) == (type(y, Role::kBias) == nullptr);
  return Rewriter::operand(x, Role::kX) == Rewriter::operand(y, Role::kX) && biases_agree &&
         type(x, Role::kWeight)->dtype == type(y, Role::kWeight)->dtype &&
         codes_agree(rewriter, x, y);
}

void merge(Rewriter& rewriter, std::vector<Member> members) {
  std::ranges::sort(members, {}, &Member::node);
  graph::Graph& graph = rewriter.graph();
  const size_t last = members.back().node;
  const Node model = rewriter.node(last);
  const std::string name = model.name.substr(0, model.name.rfind('.')) + ".merged_qkv";
  std::vector<Node> fresh;
  const auto stack = [&](Role role) {
    Node node{graph::Concat{0}, {}, {}, name};
    std::vector<graph::TypedOperand> types;
    for (const Member& member : members) {
      const ValueId id = Rewriter::operand(rewriter.node(member.node), role);
      node.inputs.push_back({Role::kX, id});
      types.push_back({Role::kX, graph.type(id)});
    }
    node.outputs = {graph.new_value(name, infer_types(node.attrs, types)[0], graph::Rate::kLoad)};
    fresh.push_back(node);
    return node.outputs[0];
  };
  const ValueId x = Rewriter::operand(model, Role::kX);
  Node linear{graph::Linear{}, {{Role::kX, x}, {Role::kWeight, stack(Role::kWeight)}}, {}, name};
  if (Rewriter::operand(model, Role::kBias) != graph::kNoValue) {
    linear.inputs.push_back({Role::kBias, stack(Role::kBias)});
  }
  const graph::Rate rate = graph.value(model.outputs[0]).rate;
  linear.outputs = {
      graph.new_value(name, infer_types(linear.attrs, graph.typed_inputs(linear))[0], rate)};
  const ValueId merged = linear.outputs[0];
  fresh.push_back(std::move(linear));
  int64_t begin = 0;
  for (const Member& member : members) {
    const int64_t width = graph.type(member.value).shape[-1];
    fresh.push_back({graph::Slice{-1, begin, begin + width},
                     {{Role::kX, merged}},
                     {member.value},
                     rewriter.node(member.node).name});
    begin += width;
  }
  for (const Member& member : members) rewriter.remove(member.node);
  rewriter.insert_before(last, std::move(fresh));
}

void run(graph::Graph& graph) {
  Rewriter rewriter(graph);
  for (size_t i = 0; i < rewriter.num_nodes(); ++i) {
    const Node& node = rewriter.node(i);
    if (!std::holds_alternative<graph::Attention>(node.attrs)) continue;
    Member q{};
    Member k{};
    Member v{};
    if (!is_plain_linear(rewriter, Rewriter::operand(node, Role::kK), k) ||
        !is_plain_linear(rewriter, Rewriter::operand(node, Role::kV), v) || k.node == v.node ||
        !mergeable(rewriter, k, v)) {
      continue;
    }
    const bool all = is_plain_linear(rewriter, Rewriter::operand(node, Role::kQ), q) &&
                     mergeable(rewriter, q, k) && q.node != k.node;
    merge(rewriter, all ? std::vector<Member>{q, k, v} : std::vector<Member>{k, v});
  }
  rewriter.commit();
}

}  // namespace

extern const Pass kPass_merge_qkv;
const Pass kPass_merge_qkv{"merge_qkv", "one linear for q, k and v of an attention", true, run};

}  // namespace halftone::compile
