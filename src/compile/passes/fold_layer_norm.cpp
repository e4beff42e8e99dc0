// A layer norm between linears becomes part of them (graph/ops/linear.h): the one before it
// describes the rows that it writes, those behind it read these rows as they are, with constants
// that are made while loading. Only where the device has kernels for both sides.
#include <algorithm>
#include <optional>
#include <utility>

#include "compile/compile.h"
#include "compile/rewrite.h"

namespace halftone::compile {
namespace {

using graph::Graph;
using graph::Linear;
using graph::Node;
using graph::Operand;
using graph::Rate;
using graph::Role;
using graph::ValueId;

class LayerNormFolder {
 public:
  LayerNormFolder(Graph& graph, const HasKernel& has_kernel)
      : graph_(graph), rewriter_(graph), has_kernel_(has_kernel) {}

  void run() {
    for (size_t i = 0; i < rewriter_.num_nodes(); ++i) fold(i);
    rewriter_.commit();
  }

 private:
  // A linear behind the norm: its node, and the constants that it would read.
  struct Reader {
    size_t index;
    Node constants;
    Node linear;
  };

  void fold(size_t index) {
    const Node norm = rewriter_.node(index);
    const auto* op = std::get_if<graph::LayerNorm>(&norm.attrs);
    if (op == nullptr || graph::is_quantized(op->out) || rewriter_.is_removed(index)) return;
    const auto writer = writer_of(Rewriter::operand(norm, Role::kX));
    if (!writer || !is_constant(norm, Role::kGamma) || !is_constant(norm, Role::kBeta)) return;
    Node described = rewriter_.node(*writer);
    ValueId statistics = graph::kNoValue;
    if (std::get<Linear>(described.attrs).row_statistics) {
      statistics = described.outputs[1];
    } else {
      std::get<Linear>(described.attrs).row_statistics = true;
      const auto outputs = infer_outputs(described.attrs, graph_.typed_inputs(described));
      if (!accepts(described)) return;
      statistics = graph_.new_value(described.name + ".row_statistics", outputs[1].type,
                                    graph_.value(described.outputs[0]).rate);
      described.outputs.push_back(statistics);
    }
    const auto readers = readers_of(index, statistics);
    if (!readers) return;
    rewriter_.node(*writer) = std::move(described);
    for (const Reader& reader : *readers) {
      rewriter_.node(reader.index) = reader.linear;
      rewriter_.insert_before(reader.index, {reader.constants});
    }
    rewriter_.remove(index);
  }

  // The linear that writes these rows, perhaps in another shape.
  std::optional<size_t> writer_of(ValueId x) {
    auto from = rewriter_.producer(x);
    while (from && std::holds_alternative<graph::Reshape>(rewriter_.node(*from).attrs)) {
      const ValueId before = Rewriter::operand(rewriter_.node(*from), Role::kX);
      if (graph_.type(before).shape.row_size() != graph_.type(x).shape.row_size()) return {};
      x = before;
      from = rewriter_.producer(x);
    }
    if (!from) return {};
    const Node& node = rewriter_.node(*from);
    const auto* op = std::get_if<Linear>(&node.attrs);
    const bool fits = op != nullptr && op->statistics_groups == 0 && is_floating(node, Role::kX) &&
                      is_floating(node, Role::kWeight) &&
                      Rewriter::operand(node, Role::kYScale) == graph::kNoValue;
    return fits ? from : std::nullopt;
  }

  // What reads the norm, as it would be without it; nothing unless all of it can.
  std::optional<std::vector<Reader>> readers_of(size_t index, ValueId statistics) {
    const Node norm = rewriter_.node(index);
    const ValueId y = norm.outputs[0];
    std::vector<Reader> readers;
    for (size_t i = index + 1; i < rewriter_.num_nodes(); ++i) {
      if (rewriter_.is_removed(i) || !reads(rewriter_.node(i), y)) continue;
      std::optional<Reader> reader = reader_at(i, norm, statistics);
      if (!reader) return {};
      readers.push_back(std::move(*reader));
    }
    if (readers.empty() || readers.size() != rewriter_.num_uses(y)) return {};
    return readers;
  }

  std::optional<Reader> reader_at(size_t index, const Node& norm, ValueId statistics) {
    const Node& node = rewriter_.node(index);
    if (!std::holds_alternative<Linear>(node.attrs) || !is_constant(node, Role::kWeight) ||
        !is_floating(node, Role::kWeight) || Rewriter::operand(node, Role::kX) != norm.outputs[0] ||
        Rewriter::operand(node, Role::kYScale) != graph::kNoValue) {
      return {};
    }
    const ValueId bias = Rewriter::operand(node, Role::kBias);
    if (bias != graph::kNoValue && !is_constant(node, Role::kBias)) return {};
    Reader reader{index, constants_of(node, norm), node};
    std::get<Linear>(reader.linear.attrs).eps = std::get<graph::LayerNorm>(norm.attrs).eps;
    std::erase_if(reader.linear.inputs, [](const Operand& o) { return o.role == Role::kBias; });
    for (Operand& operand : reader.linear.inputs) {
      if (operand.role == Role::kX) operand.value = Rewriter::operand(norm, Role::kX);
      if (operand.role == Role::kWeight) operand.value = reader.constants.outputs[0];
    }
    reader.linear.inputs.push_back({Role::kBias, reader.constants.outputs[2]});
    reader.linear.inputs.push_back({Role::kRowStatistics, statistics});
    reader.linear.inputs.push_back({Role::kColumnSum, reader.constants.outputs[1]});
    return accepts(reader.linear) ? std::optional(std::move(reader)) : std::nullopt;
  }

  Node constants_of(const Node& linear, const Node& norm) {
    const std::string name = linear.name + ".normalized";
    Node node{graph::NormWeight{},
              {{Role::kWeight, Rewriter::operand(linear, Role::kWeight)},
               {Role::kGamma, Rewriter::operand(norm, Role::kGamma)},
               {Role::kBeta, Rewriter::operand(norm, Role::kBeta)}},
              {},
              name};
    const ValueId bias = Rewriter::operand(linear, Role::kBias);
    if (bias != graph::kNoValue) node.inputs.push_back({Role::kBias, bias});
    for (const TensorType& type : infer_types(node.attrs, graph_.typed_inputs(node))) {
      node.outputs.push_back(graph_.new_value(name, type, Rate::kLoad));
    }
    return node;
  }

  [[nodiscard]] bool accepts(const Node& node) const {
    const auto in = graph_.typed_inputs(node);
    const auto out = infer_outputs(node.attrs, in);
    return has_kernel_({node.attrs, in, out});
  }

  static bool reads(const Node& node, ValueId value) {
    return std::ranges::any_of(node.inputs, [&](const Operand& o) { return o.value == value; });
  }
  [[nodiscard]] bool is_constant(const Node& node, Role role) const {
    return graph_.value(Rewriter::operand(node, role)).rate == Rate::kLoad;
  }
  [[nodiscard]] bool is_floating(const Node& node, Role role) const {
    const DType dtype = graph_.type(Rewriter::operand(node, role)).dtype;
    return halftone::is_floating(dtype) && !graph::is_quantized(dtype);
  }

  Graph& graph_;
  Rewriter rewriter_;
  const HasKernel& has_kernel_;
};

void run(Graph& graph, const HasKernel& has_kernel) { LayerNormFolder(graph, has_kernel).run(); }

}  // namespace

extern const Pass kPass_fold_layer_norm;
const Pass kPass_fold_layer_norm{
    "fold_layer_norm", "a layer norm between linears becomes part of them", false, nullptr, run};

}  // namespace halftone::compile
