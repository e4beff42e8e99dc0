#include "quant/smooth.h"

#include <algorithm>
#include <cmath>

#include "halftone/error.h"

namespace halftone::quant {
namespace {

using graph::Node;
using graph::Role;
using graph::ValueId;

// Through reshapes that keep the last axis and have one reader.
ValueId skip_reshapes(const Editor& editor, ValueId x, const graph::Graph& graph) {
  for (;;) {
    const Node* node = editor.producer(x);
    if (node == nullptr || !std::holds_alternative<graph::Reshape>(node->attrs)) return x;
    const ValueId from = operand_of(*node, Role::kX);
    if (graph.type(from).shape[-1] != graph.type(x).shape[-1] || editor.num_uses(from) != 1) {
      return x;
    }
    x = from;
  }
}

// A linear with a checkpoint weight that alone makes x.
std::optional<size_t> plain_linear(const Editor& editor, const graph::Graph& graph, ValueId x) {
  const size_t index = editor.producer_index(x);
  if (index == Editor::kNone || editor.num_uses(x) != 1) return std::nullopt;
  const Node& node = graph.nodes()[index];
  const auto* linear = std::get_if<graph::Linear>(&node.attrs);
  if (linear == nullptr || linear->geglu || linear->activation != graph::Activation::kNone) {
    return std::nullopt;
  }
  const ValueId weight = operand_of(node, Role::kWeight);
  const bool known = graph.value(weight).constant && !graph.value(weight).constant->weight.empty();
  const bool more = operand_of(node, Role::kRowAdd) != graph::kNoValue ||
                    operand_of(node, Role::kResidual) != graph::kNoValue;
  return known && !more ? std::optional(index) : std::nullopt;
}

}  // namespace

std::vector<float> smoothing_factors(const std::vector<float>& input_amax,
                                     const std::vector<float>& weight_amax, double alpha) {
  check_internal(input_amax.size() == weight_amax.size(), "smoothing: columns disagree");
  std::vector<float> s(input_amax.size(), 1.0F);
  for (size_t j = 0; j < s.size(); ++j) {
    if (input_amax[j] <= 0x1p-31F || weight_amax[j] <= 0.0F) continue;
    const double factor = std::pow(static_cast<double>(weight_amax[j]), 1.0 - alpha) /
                          std::pow(static_cast<double>(input_amax[j]), alpha);
    s[j] = static_cast<float>(std::clamp(factor, 1e-4, 1e4));
  }
  return s;
}

void add_columns(const graph::Value& weight, const WeightSource& weights, ColumnStats& stats) {
  Tensor tensor({DType::kF32, weight.type.shape});
  weights.read(weight.constant->weight, tensor.type(), tensor.data());
  const auto width = static_cast<size_t>(weight.type.shape[-1]);
  stats.amax.resize(width, 0.0F);
  stats.energy.resize(width, 0.0);
  const auto values = tensor.values<float>();
  for (size_t i = 0; i < values.size(); i += width) {
    for (size_t j = 0; j < width; ++j) {
      const float w = values[i + j];
      stats.amax[j] = std::max(stats.amax[j], std::fabs(w));
      stats.energy[j] += static_cast<double>(w) * static_cast<double>(w);
    }
  }
}

double noise_gain(const std::vector<float>& s, const std::vector<double>& energy) {
  if (s.empty()) return 1.0;
  check_internal(s.size() == energy.size(), "noise gain: columns disagree");
  double before = 0;
  double after = 0;
  for (size_t j = 0; j < s.size(); ++j) {
    const auto factor = static_cast<double>(s[j]);
    before += energy[j];
    after += energy[j] / (factor * factor);
  }
  return before > 0 ? after / before : 1.0;
}

std::optional<Fold> find_fold(const Editor& editor, ValueId x, size_t readers) {
  const graph::Graph& graph = editor.graph();
  if (editor.num_uses(x) != readers) return std::nullopt;
  const ValueId made = skip_reshapes(editor, x, graph);
  const size_t index = editor.producer_index(made);
  if (index == Editor::kNone) return std::nullopt;
  const Node& node = graph.nodes()[index];
  if (std::holds_alternative<graph::LayerNorm>(node.attrs))
    return Fold{Fold::Place::kNorm, index, 0};
  if (const auto* norm = std::get_if<graph::GroupNorm>(&node.attrs)) {
    if (norm->activation == graph::Activation::kNone) return Fold{Fold::Place::kNorm, index, 0};
    return std::nullopt;
  }
  const bool is_attention = std::holds_alternative<graph::Attention>(node.attrs);
  if (!is_attention && !std::holds_alternative<graph::Geglu>(node.attrs)) return std::nullopt;
  const auto from =
      plain_linear(editor, graph, operand_of(node, is_attention ? Role::kV : Role::kX));
  if (!from) return std::nullopt;
  return Fold{Fold::Place::kRows, *from, static_cast<size_t>(graph.type(made).shape[-1])};
}

void scale_norm(Editor& editor, size_t norm, const std::vector<float>& s) {
  const std::string name = editor.graph().nodes()[norm].name;
  const ValueId factors = editor.literal(name + ".smoothing", s);
  for (const Role role : {Role::kGamma, Role::kBeta}) {
    const ValueId scaled = editor.add(
        graph::Scale{-1}, {{Role::kX, editor.operand(norm, role)}, {Role::kGamma, factors}},
        name + (role == Role::kGamma ? ".smoothed_gamma" : ".smoothed_beta"));
    editor.set_operand(norm, role, scaled);
  }
}

}  // namespace halftone::quant
