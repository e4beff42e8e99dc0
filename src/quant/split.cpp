#include "quant/split.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "quant/editor.h"
#include "quant/taps.h"

namespace halftone::quant {
namespace {

using graph::Graph;
using graph::Node;
using graph::Role;
using graph::ValueId;

constexpr std::string_view kSecond = "_0";

class Splitter {
 public:
  Splitter(Graph& graph, const Recipe& recipe, const CalibrationRecord* record)
      : graph_(graph), matcher_(recipe), record_(record) {}

  void run() {
    const std::vector<Node> nodes = graph_.nodes();
    for (const Node& node : nodes) {
      const auto input = joined_input(graph_, node);
      if (input && is_wanted(node.name)) {
        split(node, *input);
      } else {
        ordered_.push_back(node);
      }
    }
    graph_.set_nodes(std::move(ordered_));
    verify(graph_);
  }

 private:
  [[nodiscard]] bool is_wanted(const std::string& name) const {
    const std::string second = second_half(name);
    const LayerSpec whole = matcher_.choose(name, LayerKind::kConv).spec;
    const LayerSpec half = matcher_.choose(second, LayerKind::kConv).spec;
    return whole.weight && has_range(whole, first_input(name)) && has_range(half, second);
  }

  [[nodiscard]] bool has_range(const LayerSpec& spec, const std::string& input) const {
    return !spec.needs_range() || record_ == nullptr || record_->find(input) != nullptr;
  }

  void split(const Node& node, const JoinedInput& input) {
    const ValueId weight = operand_of(node, Role::kWeight);
    const auto columns = [&](int64_t begin, int64_t end, const std::string& name) {
      return add(graph::Slice{-1, begin, end}, {{Role::kX, weight}}, name + ".weight_columns");
    };
    std::vector<graph::Operand> operands{{Role::kX, input.first},
                                         {Role::kWeight, columns(0, input.width, node.name)}};
    if (const ValueId bias = operand_of(node, Role::kBias); bias != graph::kNoValue) {
      operands.push_back({Role::kBias, bias});
    }
    const ValueId a = add(node.attrs, std::move(operands), node.name);
    const std::string second = second_half(node.name);
    const ValueId rest = columns(input.width, graph_.type(weight).shape[-1], second);
    const ValueId b = add(node.attrs, {{Role::kX, input.second}, {Role::kWeight, rest}}, second);
    ordered_.push_back(
        {graph::Add{}, {{Role::kX, a}, {Role::kX, b}}, node.outputs, node.name + ".sum"});
  }

  ValueId add(graph::OpAttrs attrs, std::vector<graph::Operand> inputs, std::string name) {
    const ValueId made = graph_.add_node(std::move(attrs), std::move(inputs), std::move(name));
    ordered_.push_back(graph_.nodes().back());
    return made;
  }

  Graph& graph_;
  RuleMatcher matcher_;
  const CalibrationRecord* record_;
  std::vector<Node> ordered_;
};

}  // namespace

std::optional<JoinedInput> joined_input(const Graph& graph, const Node& node) {
  const auto* conv = std::get_if<graph::Conv2d>(&node.attrs);
  if (conv == nullptr || *conv != graph::Conv2d{} || !is_layer(graph, node)) return std::nullopt;
  const Shape& weight = graph.type(operand_of(node, Role::kWeight)).shape;
  const bool adds = operand_of(node, Role::kRowAdd) != graph::kNoValue ||
                    operand_of(node, Role::kResidual) != graph::kNoValue;
  if (weight[1] != 1 || weight[2] != 1 || adds) return std::nullopt;
  const ValueId x = operand_of(node, Role::kX);
  const auto from = std::ranges::find_if(
      graph.nodes(), [&](const Node& other) { return other.outputs.front() == x; });
  if (from == graph.nodes().end()) return std::nullopt;
  const auto* concat = std::get_if<graph::Concat>(&from->attrs);
  const auto last = static_cast<int64_t>(graph.type(x).shape.rank()) - 1;
  if (concat == nullptr || (concat->axis != -1 && concat->axis != last)) return std::nullopt;
  if (from->inputs.size() != 2) return std::nullopt;
  const ValueId first = from->inputs[0].value;
  return JoinedInput{first, from->inputs[1].value, graph.type(first).shape[-1]};
}

std::string second_half(std::string_view shortcut) { return std::string(shortcut).append(kSecond); }

std::string_view shortcut_of(std::string_view layer) {
  if (!layer.ends_with(kSecond)) return {};
  layer.remove_suffix(kSecond.size());
  return layer;
}

std::string first_input(std::string_view shortcut) {
  return std::string(shortcut).append("/first");
}

void split_shortcuts(Graph& graph, const Recipe& recipe, const CalibrationRecord* record) {
  if (recipe.split_shortcut) Splitter(graph, recipe, record).run();
}

}  // namespace halftone::quant
