#include "quant/taps.h"

#include <map>

#include <fmt/format.h>

#include "quant/attention.h"
#include "quant/record.h"
#include "quant/split.h"

namespace halftone::quant {
namespace {

using graph::Granularity;
using graph::Graph;
using graph::Node;
using graph::Rate;
using graph::Reduction;
using graph::Role;
using graph::ValueId;

class Inserter {
 public:
  explicit Inserter(Graph& graph) : graph_(graph) {}

  void tap(const Tap& tap, ValueId x) {
    add(tap.value, "min", graph::Reduce{Reduction::kMin, Granularity::kPerTensor}, x);
    add(tap.value, "max", graph::Reduce{Reduction::kMax, Granularity::kPerTensor}, x);
    add(tap.value, "columns", graph::Reduce{Reduction::kAbsMax, Granularity::kPerColumn}, x);
    if (tap.histogram) add(tap.value, "histogram", graph::Histogram{}, x);
  }

  void add(const std::string& value, std::string_view statistic, graph::OpAttrs attrs, ValueId x) {
    const std::string name = output_name(value, statistic);
    graph_.add_output(name, graph_.add_node(std::move(attrs), {{Role::kX, x}}, name));
  }

 private:
  Graph& graph_;
};

}  // namespace

bool is_layer(const Graph& graph, const Node& node) {
  const bool is_conv = std::holds_alternative<graph::Conv2d>(node.attrs);
  if (!is_conv && !std::holds_alternative<graph::Linear>(node.attrs)) return false;
  const ValueId weight = operand_of(node, Role::kWeight);
  return graph.value(weight).rate == Rate::kLoad;
}

std::string output_name(std::string_view value, std::string_view statistic) {
  return fmt::format("tap/{}/{}", value, statistic);
}

std::vector<Tap> insert_taps(Graph& graph, const TapOptions& options) {
  std::vector<Tap> taps;
  std::vector<ValueId> inputs;
  std::map<ValueId, size_t> index;
  const auto changes = [&](ValueId x) {
    const Rate rate = graph.value(x).rate;
    return rate == Rate::kPrompt || rate == Rate::kStep;
  };
  const auto add = [&](const std::string& layer, ValueId x, bool histogram) {
    const auto [it, fresh] = index.emplace(x, taps.size());
    if (fresh) {
      taps.push_back({layer, {}, graph.value(x).rate, graph.type(x).shape[-1], histogram});
      inputs.push_back(x);
    }
    taps[it->second].layers.push_back(layer);
  };
  for (const Node& node : graph.nodes()) {
    if (!is_layer(graph, node)) continue;
    const ValueId x = operand_of(node, Role::kX);
    if (changes(x)) add(node.name, x, options.histograms);
  }
  const size_t num_inputs = taps.size();
  for (const Node& node : graph.nodes()) {
    if (!is_attention(node) || head_width(graph, node) % kAttentionHeadStep != 0) continue;
    for (const Role role : {Role::kQ, Role::kK, Role::kV}) {
      const ValueId x = operand_of(node, role);
      if (changes(x)) add(operand_name(node.name, role), x, false);
    }
  }
  for (const Node& node : graph.nodes()) {
    const auto input = joined_input(graph, node);
    if (!input || !changes(input->first) || !changes(input->second)) continue;
    add(first_input(node.name), input->first, options.histograms);
    add(second_half(node.name), input->second, options.histograms);
  }
  Inserter inserter(graph);
  const size_t num_values = taps.size();
  for (size_t i = 0; i < num_values; ++i) {
    inserter.tap(taps[i], inputs[i]);
    if (i >= num_inputs) continue;
    const Shape& shape = graph.type(inputs[i]).shape;
    if (taps[i].rate != Rate::kPrompt || shape.rank() != 3 || shape[1] < 2) continue;
    Tap rest = taps[i];
    rest.value = without_first(rest.value);
    const ValueId tail = graph.add_node(graph::Slice{1, 1, shape[1]}, {{Role::kX, inputs[i]}},
                                        output_name(rest.value, "slice"));
    inserter.tap(rest, tail);
    taps.push_back(std::move(rest));
  }
  return taps;
}

}  // namespace halftone::quant
