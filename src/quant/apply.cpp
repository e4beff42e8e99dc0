#include "quant/apply.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include <fmt/format.h>

#include "halftone/error.h"

#include "quant/attention.h"
#include "quant/smooth.h"
#include "quant/split.h"
#include "tensor/quantized.h"

namespace halftone::quant {
namespace {

using graph::Granularity;
using graph::Graph;
using graph::Node;
using graph::Rate;
using graph::Role;
using graph::ValueId;

struct Layer {
  size_t node;
  LayerSpec spec;
  LayerReport report;
  std::vector<float> row_scale;  // smoothing of what reads this layer's output
  std::vector<float> columns;    // 1 / smoothing of its own input
};

// Layers that read one quantized value.
struct Group {
  ValueId x;
  std::vector<size_t> layers;
  std::vector<float> factors{};  // smoothing; empty = none
  float smoothed_amax = 0;
  ColumnStats columns{};       // of the weights, where they matter
  std::vector<float> gamma{};  // smoothing left to the quantizer
};

LayerKind kind_of(const Node& node) {
  if (is_attention(node)) return LayerKind::kAttention;
  return std::holds_alternative<graph::Conv2d>(node.attrs) ? LayerKind::kConv : LayerKind::kLinear;
}

void leave(Layer& layer, std::string why) {
  layer.spec = {};
  layer.report.why = std::move(why);
}

// Whether a layer reads the tokens of a text.
bool reads_text(const Graph& graph, const Node& node) {
  const graph::Value& x = graph.value(operand_of(node, Role::kX));
  return x.rate == Rate::kPrompt && x.type.shape.rank() == 3 && x.type.shape[1] > 1;
}

void keep_input(Layer& layer, std::string_view why) {
  layer.spec.activation.reset();
  layer.report.why += fmt::format("; weights only: {}", why);
}

// Takes from an attention's spec what does not apply to it.
void check_attention(const Graph& graph, Layer& layer) {
  layer.spec.weight.reset();
  layer.spec.activation.reset();
  if (!layer.spec.attention) return;
  const Node& node = graph.nodes()[layer.node];
  if (const int64_t width = head_width(graph, node); width % kAttentionHeadStep != 0) {
    leave(layer,
          fmt::format("heads of {} channels, wanted a multiple of {}", width, kAttentionHeadStep));
  } else if (layer.spec.attention->only_self && !is_self_attention(graph, node)) {
    leave(layer, layer.report.why + ": its keys are made once a prompt");
  } else if (const int64_t tokens = num_tokens(graph, node);
             tokens < layer.spec.attention->min_tokens) {
    leave(layer, fmt::format("{}: {} tokens, wanted {}", layer.report.why, tokens,
                             layer.spec.attention->min_tokens));
  }
}

std::vector<Layer> choose_layers(const Graph& graph, const Recipe& recipe) {
  const RuleMatcher matcher(recipe);
  const bool with_attention = recipe.has_attention();
  std::vector<Layer> layers;
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    const Node& node = graph.nodes()[i];
    if (!is_layer(graph, node) && !(with_attention && is_attention(node))) continue;
    RuleMatcher::Choice choice = matcher.choose(node.name, kind_of(node));
    Layer layer{.node = i, .spec = choice.spec, .report = {}, .row_scale = {}, .columns = {}};
    layer.report.name = node.name;
    layer.report.kind = kind_of(node);
    layer.report.why = std::move(choice.why);
    if (layer.report.kind != LayerKind::kAttention) {
      layer.report.num_weights = graph.type(operand_of(node, Role::kWeight)).shape.num_elements();
    }
    const Rate rate = graph.value(node.outputs[0]).rate;
    if (layer.report.kind == LayerKind::kAttention) {
      check_attention(graph, layer);
    } else if (layer.spec.weight && rate == Rate::kSchedule) {
      leave(layer, "computed once a schedule row");
    } else if (layer.spec.activation && rate == Rate::kPrompt) {
      layer.spec.smooth = false;
      layer.spec.min_sqnr.reset();
      if (!recipe.bos_aware || layer.spec.activation->dynamic || !reads_text(graph, node)) {
        keep_input(layer, "computed once a prompt");
      }
    }
    layers.push_back(std::move(layer));
  }
  return layers;
}

class Applier {
 public:
  Applier(Graph& graph, const Recipe& recipe, const CalibrationRecord* record,
          const WeightSource& weights)
      : editor_(graph),
        graph_(graph),
        recipe_(recipe),
        record_(record),
        weights_(weights),
        layers_(choose_layers(graph, recipe)) {}

  Applied run() {
    for (Layer& layer : layers_) need_statistics(layer);
    Applied applied;
    applied.unused = unused();
    applied.unmatched = unmatched();
    make_groups();
    for (Group& group : groups_) measure(group);
    choose_static();
    for (Group& group : groups_) smooth(group);
    for (const Group& group : groups_) quantize_input(group);
    for (Layer& layer : layers_) quantize_attention_of(layer);
    for (Layer& layer : layers_) change_weight(layer);
    editor_.commit();
    for (Layer& layer : layers_) {
      layer.report.weight = layer.spec.weight;
      layer.report.activation = layer.spec.activation;
      layer.report.attention = layer.spec.attention;
      applied.layers.push_back(std::move(layer.report));
    }
    return applied;
  }

 private:
  // Statistics of a layer's input, or null. By its channels the first half of a shortcut is told
  // from the whole, which has its name.
  [[nodiscard]] const ValueStats* stats_of(const Layer& layer) const {
    if (record_ == nullptr) return nullptr;
    if (keeps_first_token(layer)) return record_->find_without_first(layer.report.name);
    for (const std::string& name : {layer.report.name, first_input(layer.report.name)}) {
      const ValueStats* stats = record_->find(name);
      if (stats != nullptr && stats->channels == graph_.type(input(layer)).shape[-1]) return stats;
    }
    return nullptr;
  }

  // Whether the first token of a layer's input stays as it is: of all text that is quantized.
  [[nodiscard]] bool keeps_first_token(const Layer& layer) const {
    return layer.spec.activation && reads_text(graph_, graph_.nodes()[layer.node]);
  }

  // Whether the layer is the second half of a shortcut that was split.
  [[nodiscard]] bool is_second_half(const Layer& layer) const {
    const std::string_view shortcut = shortcut_of(layer.report.name);
    const auto is_first = [&](const Layer& other) { return other.report.name == shortcut; };
    return !shortcut.empty() && std::ranges::any_of(layers_, is_first);
  }

  [[nodiscard]] std::vector<std::string> unmatched() const {
    std::vector<std::string> patterns;
    for (const Rule& rule : recipe_.rules) {
      if (!rule.is_asked_for || std::ranges::find(patterns, rule.pattern) != patterns.end())
        continue;
      const Pattern pattern(rule.pattern);
      const auto fits = [&](const Layer& layer) { return pattern.search(layer.report.name); };
      if (std::ranges::none_of(layers_, fits)) patterns.push_back(rule.pattern);
    }
    return patterns;
  }

  [[nodiscard]] std::vector<std::string> unused() const {
    std::vector<std::string> sentences;
    const auto none = [&](auto takes) { return std::ranges::none_of(layers_, takes); };
    const bool has_whole = !none([&](const Layer& l) {
      return l.spec.weight && joined_input(graph_, graph_.nodes()[l.node]).has_value();
    });
    if (recipe_.split_shortcut && (recipe_.asks_split_shortcut || has_whole) &&
        none([&](const Layer& l) { return is_second_half(l); })) {
      sentences.emplace_back(
          "split_shortcut changes nothing: no shortcut over joined values is quantized in two "
          "halves; the policy may leave shortcuts as they are (--policy none does not), or the "
          "calibration record lacks the halves (calibrate --restart)");
    }
    if (recipe_.bos_aware && (recipe_.asks_bos_aware || lacks_tokens_) &&
        none([&](const Layer& l) { return keeps_first_token(l); })) {
      sentences.emplace_back(
          "bos_aware changes nothing: no input from the text has a static scale; MixDQ's recipes "
          "give one (quantize --act-bits), and the calibration record must hold the tokens behind "
          "the first (calibrate --restart)");
    }
    return sentences;
  }

  [[noreturn]] void lack_record(const Layer& layer) const {
    throw Error(Errc::kInvalidArgument,
                fmt::format("recipe '{}' needs a calibration record ({} has a static scale); run "
                            "'halftone calibrate' and give --ranges",
                            recipe_.scheme, layer.report.name));
  }

  void need_statistics(Layer& layer) {
    const LayerSpec& spec = layer.spec;
    if (spec.attention) need_attention_statistics(layer);
    if (!spec.activation) return;
    if (layer.report.kind == LayerKind::kConv) layer.spec.smooth = false;
    if (!spec.smooth && !spec.min_sqnr && !spec.needs_range()) return;
    if (record_ == nullptr) lack_record(layer);
    if (stats_of(layer) == nullptr && keeps_first_token(layer)) {
      lacks_tokens_ = true;
      return keep_input(layer, "its text's tokens are not in the calibration record");
    }
    if (stats_of(layer) == nullptr) return leave(layer, "not in the calibration record");
    if (recipe_.split_shortcut && joined_input(graph_, graph_.nodes()[layer.node])) {
      layer.report.why +=
          "; whole: the parts of its input are not in the calibration record, calibrate with "
          "--restart";
    }
  }

  // Statistics of an operand of an attention, or null.
  [[nodiscard]] const ValueStats* stats_of(const Layer& layer, Role role) const {
    const ValueStats* stats = record_->find(operand_name(layer.report.name, role));
    const ValueId x = operand_of(graph_.nodes()[layer.node], role);
    return stats != nullptr && stats->channels == graph_.type(x).shape[-1] ? stats : nullptr;
  }

  void need_attention_statistics(Layer& layer) const {
    const AttentionSpec& spec = *layer.spec.attention;
    if (spec.qk.dynamic && spec.v.dynamic) return;
    if (record_ == nullptr) lack_record(layer);
    for (const Role role : {Role::kQ, Role::kK, Role::kV}) {
      if (stats_of(layer, role) == nullptr) {
        return leave(layer,
                     "q, k and v are not in the calibration record; calibrate with --restart");
      }
    }
  }

  // The largest |v|, as the smoothed rows of to_v make it.
  [[nodiscard]] float largest_value(const Layer& layer) const {
    const std::vector<float>& columns = stats_of(layer, Role::kV)->column_amax;
    const size_t from = editor_.producer_index(operand_of(graph_.nodes()[layer.node], Role::kV));
    const auto maker = std::ranges::find(layers_, from, &Layer::node);
    const bool scaled = maker != layers_.end() && maker->row_scale.size() == columns.size();
    float amax = 0.0F;
    for (size_t j = 0; j < columns.size(); ++j) {
      amax = std::max(amax, scaled ? columns[j] * maker->row_scale[j] : columns[j]);
    }
    return amax;
  }

  void quantize_attention_of(Layer& layer) {
    if (!layer.spec.attention) return;
    const AttentionSpec& spec = *layer.spec.attention;
    if (spec.qk.dynamic && spec.v.dynamic) {
      return quantize_attention(editor_, layer.node, spec, nullptr);
    }
    const auto largest = [&](Role role) {
      return amax_of(*stats_of(layer, role), {.method = Collect::Method::kMax});
    };
    AttentionRanges ranges{largest(Role::kQ), largest(Role::kK), largest_value(layer)};
    if (has_one_scale(graph_, graph_.nodes()[layer.node], spec)) {
      const float all = std::max({ranges.q, ranges.k, ranges.v});
      ranges = {all, all, all};
    }
    quantize_attention(editor_, layer.node, spec, &ranges);
    const auto note = [&](size_t operand, const QuantSpec& codes, float amax) {
      if (codes.dynamic) return;
      layer.report.operand_amax[operand] = amax;
      layer.report.operand_scale[operand] =
          scale_for(amax, quantized_largest(codes.dtype, codes.bits));
    };
    note(0, spec.qk, ranges.q);
    note(1, spec.qk, ranges.k);
    note(2, spec.v, ranges.v);
  }

  [[nodiscard]] ValueId input(const Layer& layer) const {
    return operand_of(graph_.nodes()[layer.node], Role::kX);
  }

  void make_groups() {
    for (size_t i = 0; i < layers_.size(); ++i) {
      if (layers_[i].spec.activation) join(i);
    }
  }

  // Puts a layer into the group of those that read the same codes.
  void join(size_t i) {
    const Layer& layer = layers_[i];
    const auto same = [&](const Group& group) {
      LayerSpec other = layers_[group.layers.front()].spec;
      other.weight = layer.spec.weight;
      return group.x == input(layer) && other == layer.spec;
    };
    const auto found = std::ranges::find_if(groups_, same);
    if (found == groups_.end()) {
      groups_.push_back({.x = input(layer), .layers = {i}});
    } else {
      found->layers.push_back(i);
    }
  }

  // Whether the record predicts enough for a group's static scale; says so in the report.
  bool keeps_enough(const Group& group) {
    const Layer& first = layers_[group.layers.front()];
    const std::optional<double> wanted = first.spec.min_sqnr;
    if (!wanted) return true;
    const double sqnr =
        predicted_sqnr(*stats_of(first), static_cast<double>(static_range(group).scale),
                       noise_gain(group.factors, group.columns.energy));
    const bool enough = sqnr >= *wanted;
    for (const size_t i : group.layers) {
      std::string& why = layers_[i].report.why;
      why += fmt::format("; {:.1f} dB predicted", sqnr);
      if (!enough) why += fmt::format(", {} wanted: per token", *wanted);
    }
    return enough;
  }

  // Inputs that a static scale would keep too little of get one a token.
  void choose_static() {
    std::vector<size_t> changed;
    std::vector<Group> kept;
    for (Group& group : groups_) {
      if (keeps_enough(group)) {
        kept.push_back(std::move(group));
      } else {
        changed.insert(changed.end(), group.layers.begin(), group.layers.end());
      }
    }
    groups_ = std::move(kept);
    for (const size_t i : changed) {
      LayerSpec spec;
      spec.weight = layers_[i].spec.weight;
      spec.activation = layers_[i].spec.activation;
      spec.activation->granularity = Granularity::kPerToken;
      spec.activation->dynamic = true;
      layers_[i].spec = spec;
      join(i);
    }
  }

  [[nodiscard]] const graph::Value& weight_of(const Layer& layer) const {
    return graph_.value(operand_of(graph_.nodes()[layer.node], Role::kWeight));
  }

  // Smoothing factors of a group, and the largest magnitude that they leave.
  void measure(Group& group) const {
    const LayerSpec& spec = layers_[group.layers.front()].spec;
    if (!spec.smooth) return;
    const std::vector<float>& input_amax = stats_of(layers_[group.layers.front()])->column_amax;
    for (const size_t i : group.layers) {
      const graph::Value& weight = weight_of(layers_[i]);
      if (!weight.constant || weight.constant->weight.empty()) return;
      add_columns(weight, weights_, group.columns);
    }
    group.factors = smoothing_factors(input_amax, group.columns.amax, spec.alpha);
    for (size_t j = 0; j < group.factors.size(); ++j) {
      group.smoothed_amax = std::max(group.smoothed_amax, input_amax[j] * group.factors[j]);
    }
  }

  void smooth(Group& group) {
    const std::vector<float>& s = group.factors;
    if (s.empty()) return;
    const std::string where = place(group);
    for (const size_t i : group.layers) {
      layers_[i].report.smoothing = where;
      layers_[i].columns.resize(s.size());
      for (size_t j = 0; j < s.size(); ++j) layers_[i].columns[j] = 1.0F / s[j];
    }
  }

  // Multiplies the input by its factors and says where.
  std::string place(Group& group) {
    const std::vector<float>& s = group.factors;
    const auto fold = find_fold(editor_, group.x, group.layers.size());
    if (fold && fold->place == Fold::Place::kNorm) {
      scale_norm(editor_, fold->node, s);
      return "in " + graph_.nodes()[fold->node].name;
    }
    if (fold) {
      const auto maker = std::ranges::find(layers_, fold->node, &Layer::node);
      if (maker != layers_.end() && maker->row_scale.empty()) {
        maker->row_scale = s;
        const auto rows = static_cast<size_t>(weight_of(*maker).type.shape[0]);
        maker->row_scale.resize(rows, 1.0F);
        return "in " + maker->report.name;
      }
    }
    group.gamma = s;
    return "in the quantizer";
  }

  // Largest magnitude of a group's input under its static scale.
  [[nodiscard]] float static_amax(const Group& group) const {
    const Layer& layer = layers_[group.layers.front()];
    if (layer.spec.input_amax) return *layer.spec.input_amax;
    const auto margin = static_cast<float>(layer.spec.margin);
    if (layer.spec.smooth) return margin * group.smoothed_amax;
    Collect collect = recipe_.collect;
    using Method = Collect::Method;
    const bool by_steps = collect.method != Method::kHistogram && collect.method != Method::kMse;
    if (layer.report.kind == LayerKind::kLinear && by_steps &&
        collect.compat != Collect::Compat::kTrt9 && collect.compat != Collect::Compat::kMixdq) {
      collect = {};
      collect.method = Method::kMax;
    }
    return margin * amax_of(*stats_of(layer), collect, layer.spec.activation->bits);
  }

  struct Range {
    float scale;
    std::optional<int32_t> zero;
    float amax;
  };
  [[nodiscard]] Range static_range(const Group& group) const {
    const LayerSpec& spec = layers_[group.layers.front()].spec;
    const QuantSpec& q = *spec.activation;
    if (q.symmetric) {
      const float amax = static_amax(group);
      const float scale = scale_for(amax, quantized_largest(q.dtype, q.bits));
      return {amax > 0 ? scale : 1.0F, std::nullopt, amax};
    }
    const ValueStats* stats = stats_of(layers_[group.layers.front()]);
    const bool ema = recipe_.collect.compat == Collect::Compat::kMixdq;
    const float low = spec.input_low ? *spec.input_low : ema ? stats->ema_low : stats->low;
    const float high = spec.input_high ? *spec.input_high : ema ? stats->ema_high : stats->high;
    const AsymmetricRange range = asymmetric_range(low, high, q.bits);
    return {range.scale, range.zero, std::max({0.0F, -low, high})};
  }

  void quantize_input(const Group& group) {
    Layer& first = layers_[group.layers.front()];
    const QuantSpec& spec = *first.spec.activation;
    const std::string name = first.report.name + ".input_quantizer";
    const bool keeps_first = keeps_first_token(first);
    const int64_t tokens = keeps_first ? graph_.type(group.x).shape[1] : 0;
    ValueId codes_of = group.x;
    if (keeps_first) {
      codes_of = editor_.add(graph::Slice{1, 1, tokens}, {{Role::kX, group.x}}, name + ".tokens");
    }
    // x as the layer reads it: a norm that was smoothed makes the same value.
    std::vector<graph::Operand> inputs{{Role::kX, codes_of}};
    if (!group.gamma.empty()) {
      inputs.push_back({Role::kGamma, editor_.literal(name + ".smoothing", group.gamma)});
    }
    ValueId scale = graph::kNoValue;
    ValueId zero = graph::kNoValue;
    if (!spec.dynamic) {
      const Range range = static_range(group);
      scale = editor_.literal(name + ".scale", std::vector<float>{range.scale});
      inputs.push_back({Role::kXScale, scale});
      if (range.zero) {
        zero = editor_.literal(name + ".zero", *range.zero);
        inputs.push_back({Role::kXZero, zero});
      }
      for (const size_t i : group.layers) {
        layers_[i].report.input_scale = range.scale;
        layers_[i].report.input_amax = range.amax;
      }
    }
    const ValueId q = editor_.add(graph::Quantize{.dtype = spec.dtype,
                                                  .bits = spec.bits,
                                                  .granularity = spec.granularity,
                                                  .dynamic = spec.dynamic},
                                  std::move(inputs), name);
    if (spec.dynamic) scale = editor_.second_output(q);
    std::vector<graph::Operand> back{{Role::kX, q}, {Role::kXScale, scale}};
    if (zero != graph::kNoValue) back.push_back({Role::kXZero, zero});
    ValueId x = editor_.add(graph::Dequantize{.dtype = graph_.type(group.x).dtype,
                                              .bits = spec.bits,
                                              .granularity = spec.granularity},
                            std::move(back), first.report.name + ".input");
    if (keeps_first) x = behind_first_token(group, x);
    for (const size_t i : group.layers) editor_.set_operand(layers_[i].node, Role::kX, x);
  }

  // The group's first token as it is, then the others as their codes give them.
  ValueId behind_first_token(const Group& group, ValueId others) {
    const std::string& name = layers_[group.layers.front()].report.name;
    const ValueId token =
        editor_.add(graph::Slice{1, 0, 1}, {{Role::kX, group.x}}, name + ".first_token");
    for (const size_t i : group.layers) layers_[i].report.why += "; the first token stays";
    return editor_.add(graph::Concat{1}, {{Role::kX, token}, {Role::kX, others}},
                       name + ".all_tokens");
  }

  // The weight in f32, as it is stored in the checkpoint.
  ValueId exact_weight(ValueId weight) {
    const graph::Value value = graph_.value(weight);
    if (value.constant && !value.constant->weight.empty()) {
      return graph_.add_weight(value.constant->weight, {DType::kF32, value.type.shape});
    }
    const Node* node = editor_.producer(weight);
    if (node == nullptr) return weight;
    // Rounded to what the model computes in: the value before is exact.
    if (std::holds_alternative<graph::Cast>(node->attrs)) {
      return exact_weight(operand_of(*node, Role::kX));
    }
    const bool moves = std::holds_alternative<graph::Transpose>(node->attrs) ||
                       std::holds_alternative<graph::Slice>(node->attrs);
    if (!moves) return weight;
    const graph::OpAttrs attrs = node->attrs;
    const std::string name = node->name;
    return editor_.add(attrs, {{Role::kX, exact_weight(operand_of(*node, Role::kX))}}, name);
  }

  ValueId scaled(ValueId x, int64_t axis, const std::vector<float>& factors,
                 const std::string& name) {
    if (factors.empty()) return x;
    return editor_.add(graph::Scale{axis},
                       {{Role::kX, x}, {Role::kGamma, editor_.literal(name + ".factors", factors)}},
                       name);
  }

  void change_weight(Layer& layer) {
    if (!layer.spec.weight && layer.row_scale.empty()) return;
    const std::string name = layer.report.name;
    const ValueId old = editor_.operand(layer.node, Role::kWeight);
    const DType dtype = graph_.type(old).dtype;
    ValueId weight = exact_weight(old);
    weight = scaled(weight, 0, layer.row_scale, name + ".smoothed_rows");
    weight = scaled(weight, -1, layer.columns, name + ".smoothed_columns");
    if (const ValueId bias = editor_.operand(layer.node, Role::kBias);
        bias != graph::kNoValue && !layer.row_scale.empty()) {
      editor_.set_operand(layer.node, Role::kBias,
                          scaled(bias, 0, layer.row_scale, name + ".smoothed_bias"));
    }
    if (layer.spec.weight) {
      weight = quantized_weight(weight, *layer.spec.weight, dtype, name);
    } else if (graph_.type(weight).dtype != dtype) {
      weight = editor_.add(graph::Cast{dtype}, {{Role::kX, weight}}, name + ".weight");
    }
    editor_.set_operand(layer.node, Role::kWeight, weight);
  }

  ValueId quantized_weight(ValueId weight, const QuantSpec& spec, DType dtype,
                           const std::string& name) {
    const bool packs = spec.bits < 8 && graph_.type(weight).shape[-1] * spec.bits % 8 == 0;
    const ValueId q = editor_.add(graph::Quantize{.dtype = packs ? DType::kU8 : spec.dtype,
                                                  .bits = spec.bits,
                                                  .granularity = spec.granularity,
                                                  .dynamic = true,
                                                  .narrow = spec.dtype == DType::kI8},
                                  {{Role::kX, weight}}, name + ".weight_quantizer");
    return editor_.add(
        graph::Dequantize{.dtype = dtype, .bits = spec.bits, .granularity = spec.granularity},
        {{Role::kX, q}, {Role::kXScale, editor_.second_output(q)}}, name + ".weight");
  }

  Editor editor_;
  Graph& graph_;
  const Recipe& recipe_;
  const CalibrationRecord* record_;
  const WeightSource& weights_;
  std::vector<Layer> layers_;
  std::vector<Group> groups_;
  bool lacks_tokens_ = false;  // a text input's, whose first token is to stay
};

}  // namespace

Applied apply(Graph& graph, const Recipe& recipe, const CalibrationRecord* record,
              const WeightSource& weights) {
  split_shortcuts(graph, recipe, record);
  return Applier(graph, recipe, record, weights).run();
}

std::vector<LayerReport> resolve(const Graph& graph, const Recipe& recipe) {
  std::vector<LayerReport> reports;
  for (Layer& layer : choose_layers(graph, recipe)) {
    layer.report.weight = layer.spec.weight;
    layer.report.activation = layer.spec.activation;
    layer.report.attention = layer.spec.attention;
    reports.push_back(std::move(layer.report));
  }
  return reports;
}

}  // namespace halftone::quant
