// Nearest enlargement by 2 and the 3x3 convolution that reads it become a 2x2 convolution of the
// small image, whose four parities are interleaved (graph/ops/subpixel.h): 4/9 of the products, and
// the enlarged tensor is never written. Weights are summed in f32 while loading, so that what
// quantizes them sees the sums.
#include <algorithm>
#include <utility>

#include "compile/compile.h"
#include "compile/rewrite.h"

namespace halftone::compile {
namespace {

using graph::Conv2d;
using graph::Graph;
using graph::Node;
using graph::Rate;
using graph::Role;
using graph::ValueId;

bool is_wanted(const Graph& graph, const Node& node) {
  const auto* conv = std::get_if<Conv2d>(&node.attrs);
  if (conv == nullptr || conv->stride != 1 || conv->pad_begin != 1 || conv->pad_end != 1) {
    return false;
  }
  for (const graph::Operand& operand : node.inputs) {
    if (operand.role != Role::kX && operand.role != Role::kWeight && operand.role != Role::kBias) {
      return false;
    }
  }
  const Shape& weight = graph.type(Rewriter::operand(node, Role::kWeight)).shape;
  return weight[1] == 3 && weight[2] == 3;
}

class Subpixel {
 public:
  explicit Subpixel(Graph& graph) : graph_(graph), rewriter_(graph) {}

  void run() {
    for (size_t i = 0; i < rewriter_.num_nodes(); ++i) rewrite(i);
    rewriter_.commit();
  }

 private:
  void rewrite(size_t index) {
    const Node node = rewriter_.node(index);
    if (!is_wanted(graph_, node)) return;
    const ValueId large = Rewriter::operand(node, Role::kX);
    const auto from = rewriter_.producer(large);
    if (!from || rewriter_.num_uses(large) != 1) return;
    const auto* upsample = std::get_if<graph::Upsample>(&rewriter_.node(*from).attrs);
    if (upsample == nullptr) return;
    const ValueId small = Rewriter::operand(rewriter_.node(*from), Role::kX);
    const Shape& size = graph_.type(small).shape;
    if (upsample->out_h != 2 * size[1] || upsample->out_w != 2 * size[2]) return;
    const ValueId old_weight = Rewriter::operand(node, Role::kWeight);
    fresh_.clear();
    const ValueId weight = exact_weight(old_weight);
    if (weight == graph::kNoValue) return;
    const DType dtype = graph_.type(old_weight).dtype;
    ValueId summed = add(graph::SubpixelWeight{}, {{Role::kX, weight}}, node.name + ".subpixel");
    if (dtype != DType::kF32) {
      summed = add(graph::Cast{dtype}, {{Role::kX, summed}}, node.name + ".subpixel_cast");
    }
    std::vector<graph::Operand> inputs{{Role::kX, small}, {Role::kWeight, summed}};
    if (const ValueId bias = Rewriter::operand(node, Role::kBias); bias != graph::kNoValue) {
      const graph::Operand part{Role::kX, bias};
      inputs.push_back({Role::kBias, add(graph::Concat{0}, {part, part, part, part},
                                         node.name + ".subpixel_bias")});
    }
    const ValueId parts = add(node.attrs, std::move(inputs), node.name);
    rewriter_.remove(*from);
    rewriter_.insert_before(index, std::move(fresh_));
    rewriter_.node(index) = {
        graph::SubpixelMerge{}, {{Role::kX, parts}}, node.outputs, node.name + ".subpixel_merge"};
  }

  // The weight in f32 as the checkpoint holds it, or kNoValue when it is something else.
  ValueId exact_weight(ValueId weight) {
    const graph::Value value = graph_.value(weight);
    if (value.constant && !value.constant->weight.empty()) {
      return graph_.add_weight(value.constant->weight, {DType::kF32, value.type.shape});
    }
    if (value.rate == Rate::kLoad && value.type.dtype == DType::kF32) return weight;
    const auto from = rewriter_.producer(weight);
    if (!from) return graph::kNoValue;
    const Node node = rewriter_.node(*from);
    if (!std::holds_alternative<graph::Transpose>(node.attrs)) return graph::kNoValue;
    const ValueId before = exact_weight(Rewriter::operand(node, Role::kX));
    if (before == graph::kNoValue) return before;
    return add(node.attrs, {{Role::kX, before}}, node.name);
  }

  ValueId add(graph::OpAttrs attrs, std::vector<graph::Operand> inputs, std::string name) {
    Node node{std::move(attrs), std::move(inputs), {}, std::move(name)};
    Rate rate = Rate::kLoad;
    for (const graph::Operand& operand : node.inputs) {
      rate = std::max(rate, graph_.value(operand.value).rate);
    }
    const auto types = infer_types(node.attrs, graph_.typed_inputs(node));
    node.outputs = {graph_.new_value(node.name, types[0], rate)};
    fresh_.push_back(node);
    return node.outputs[0];
  }

  Graph& graph_;
  Rewriter rewriter_;
  std::vector<Node> fresh_;
};

void run(Graph& graph) { Subpixel(graph).run(); }

}  // namespace

extern const Pass kPass_subpixel_upsample;
const Pass kPass_subpixel_upsample{
    "subpixel_upsample",
    "enlargement by 2 and its 3x3 convolution become a 2x2 convolution",
    false,
    run,
    nullptr,
    true};

}  // namespace halftone::compile
