#include "quant/taps.h"

#include <map>

#include <fmt/format.h>

namespace halftone::quant {
namespace {

using graph::Granularity;
using graph::Graph;
using graph::Node;
using graph::Rate;
using graph::Reduction;
using graph::Role;
using graph::ValueId;

ValueId operand(const Node& node, Role role) {
  for (const graph::Operand& o : node.inputs) {
    if (o.role == role) return o.value;
  }
  return graph::kNoValue;
}

class Inserter {
 public:
  Inserter(Graph& graph, const TapOptions& options) : graph_(graph), options_(options) {}

  void tap(const Tap& tap, ValueId x) {
    add(tap.value, "min", graph::Reduce{Reduction::kMin, Granularity::kPerTensor}, x);
    add(tap.value, "max", graph::Reduce{Reduction::kMax, Granularity::kPerTensor}, x);
    add(tap.value, "columns", graph::Reduce{Reduction::kAbsMax, Granularity::kPerColumn}, x);
    if (options_.histograms) add(tap.value, "histogram", graph::Histogram{}, x);
  }

  void add(const std::string& value, std::string_view statistic, graph::OpAttrs attrs, ValueId x) {
    const std::string name = output_name(value, statistic);
    graph_.add_output(name, graph_.add_node(std::move(attrs), {{Role::kX, x}}, name));
  }

 private:
  Graph& graph_;
  const TapOptions& options_;
};

}  // namespace

bool is_layer(const Graph& graph, const Node& node) {
  const bool is_conv = std::holds_alternative<graph::Conv2d>(node.attrs);
  if (!is_conv && !std::holds_alternative<graph::Linear>(node.attrs)) return false;
  const ValueId weight = operand(node, Role::kWeight);
  return graph.value(weight).rate == Rate::kLoad;
}

std::string output_name(std::string_view value, std::string_view statistic) {
  return fmt::format("tap/{}/{}", value, statistic);
}

std::vector<Tap> insert_taps(Graph& graph, const TapOptions& options) {
  std::vector<Tap> taps;
  std::vector<ValueId> inputs;
  std::map<ValueId, size_t> index;
  for (const Node& node : graph.nodes()) {
    if (!is_layer(graph, node)) continue;
    const ValueId x = operand(node, Role::kX);
    const Rate rate = graph.value(x).rate;
    if (rate != Rate::kPrompt && rate != Rate::kStep) continue;
    const auto [it, fresh] = index.emplace(x, taps.size());
    if (fresh) {
      taps.push_back({node.name, {}, rate, graph.type(x).shape[-1], options.histograms});
      inputs.push_back(x);
    }
    taps[it->second].layers.push_back(node.name);
  }
  Inserter inserter(graph, options);
  const size_t num_values = taps.size();
  for (size_t i = 0; i < num_values; ++i) {
    inserter.tap(taps[i], inputs[i]);
    const Shape& shape = graph.type(inputs[i]).shape;
    if (taps[i].rate != Rate::kPrompt || shape.rank() != 3 || shape[1] < 2) continue;
    Tap rest = taps[i];
    rest.value += "/without_first";
    const ValueId tail = graph.add_node(graph::Slice{1, 1, shape[1]}, {{Role::kX, inputs[i]}},
                                        output_name(rest.value, "slice"));
    inserter.tap(rest, tail);
    taps.push_back(std::move(rest));
  }
  return taps;
}

}  // namespace halftone::quant
