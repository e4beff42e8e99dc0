#include "workflow/layer_sqnr.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "halftone/error.h"

#include "metrics/signal.h"
#include "quant/apply.h"
#include "quant/attention.h"
#include "quant/split.h"
#include "quant/taps.h"
#include "workflow/graph_plan.h"
#include "workflow/layer_table.h"
#include "workflow/model.h"
#include "workflow/plans.h"
#include "workflow/request.h"

namespace halftone::workflow {
namespace {

using graph::Graph;
using graph::Node;
using graph::Rate;
using graph::Role;
using graph::ValueId;

constexpr uint64_t kChunkBytes = uint64_t{512} << 20;

std::string input_name(size_t i) { return fmt::format("x{}", i); }

ValueId operand(const Node& node, Role role) {
  for (const graph::Operand& input : node.inputs) {
    if (input.role == role) return input.value;
  }
  return graph::kNoValue;
}

// The layers that read one value, or an attention, which reads three.
struct Group {
  std::vector<ValueId> inputs;
  std::vector<const Node*> layers;
};

// What the node reads that is not a constant, when it is a layer that may be measured alone; else
// nothing.
std::vector<ValueId> inputs_of(const Graph& graph, const Node& node) {
  std::vector<ValueId> inputs;
  if (quant::is_attention(node)) {
    for (const Role role : {Role::kQ, Role::kK, Role::kV}) {
      const ValueId x = operand(node, role);
      if (std::ranges::find(inputs, x) == inputs.end()) inputs.push_back(x);
    }
  } else if (quant::is_layer(graph, node)) {
    inputs.push_back(operand(node, Role::kX));
  }
  const auto moves = [&](ValueId x) {
    const Rate rate = graph.value(x).rate;
    return rate == Rate::kPrompt || rate == Rate::kStep;
  };
  const bool alone = std::ranges::all_of(inputs, moves) &&
                     std::ranges::all_of(node.inputs, [&](const graph::Operand& input) {
                       return std::ranges::find(inputs, input.value) != inputs.end() ||
                              graph.value(input.value).rate == Rate::kLoad;
                     });
  return alone ? inputs : std::vector<ValueId>{};
}

std::vector<Group> groups_of(const Graph& graph) {
  std::vector<Group> groups;
  for (const Node& node : graph.nodes()) {
    std::vector<ValueId> inputs = inputs_of(graph, node);
    if (inputs.empty()) continue;
    const auto found = std::ranges::find(groups, inputs, &Group::inputs);
    if (found == groups.end()) {
      groups.push_back({std::move(inputs), {&node}});
    } else {
      found->layers.push_back(&node);
    }
  }
  return groups;
}

// A group's layers as a graph of their own: inputs "x0", "x1", ..., one output a layer.
class Extraction {
 public:
  Extraction(const Graph& from, const Group& group) : from_(from) {
    for (const Node& node : from.nodes()) {
      for (const ValueId output : node.outputs) producers_[output] = &node;
    }
    for (size_t i = 0; i < group.inputs.size(); ++i) {
      const graph::Value& x = from.value(group.inputs[i]);
      copies_[group.inputs[i]] = result_.add_input(input_name(i), x.type, x.rate);
    }
    for (const Node* layer : group.layers) result_.add_output(layer->name, copy(*layer));
  }

  [[nodiscard]] Graph take() { return std::move(result_); }

 private:
  ValueId copy(const Node& node) {
    std::vector<graph::Operand> inputs;
    for (const graph::Operand& input : node.inputs) {
      inputs.push_back({input.role, copy(input.value)});
    }
    const ValueId first = result_.add_node(node.attrs, std::move(inputs), node.name);
    const auto outputs = result_.nodes().back().outputs;
    for (size_t i = 0; i < outputs.size(); ++i) copies_[node.outputs[i]] = outputs[i];
    return first;
  }

  ValueId copy(ValueId id) {
    const auto found = copies_.find(id);
    if (found != copies_.end()) return found->second;
    const graph::Value& value = from_.value(id);
    if (!value.constant) {
      copy(*producers_.at(id));
      return copies_.at(id);
    }
    const ValueId made = value.constant->literal
                             ? result_.add_literal(value.name, value.constant->literal->clone())
                             : result_.add_weight(value.constant->weight, value.type);
    return copies_[id] = made;
  }

  const Graph& from_;
  Graph result_;
  std::map<ValueId, const Node*> producers_;
  std::map<ValueId, ValueId> copies_;
};

std::string scheme_of(const quant::LayerReport& layer) {
  const auto name = [](const std::optional<quant::QuantSpec>& spec) -> std::string {
    if (!spec) return "–";
    std::string text = fmt::format("{}{}", spec->dtype == DType::kI8 ? "int" : "fp", spec->bits);
    if (spec->dynamic) text += " dynamic";
    if (spec->granularity == graph::Granularity::kPerToken) text += " per token";
    return text;
  };
  if (const auto& attention = layer.attention) {
    return fmt::format("q, k {}{} · v {} · probabilities fp8", name(attention->qk),
                       attention->center_keys ? ", k centered" : "", name(attention->v));
  }
  return fmt::format("W {} · A {}", name(layer.weight), name(layer.activation));
}

std::string note_of(const quant::LayerReport& layer) {
  std::string note = layer.why;
  if (layer.input_amax > 0) note += fmt::format(", amax {:.4g}", layer.input_amax);
  const auto& amax = layer.operand_amax;
  if (std::ranges::any_of(amax, [](float value) { return value > 0; })) {
    note += fmt::format(", amax q {:.4g}, k {:.4g}, v {:.4g}", amax[0], amax[1], amax[2]);
  }
  if (!layer.smoothing.empty()) note += ", smoothed";
  return note;
}

std::string op_of(quant::LayerKind kind) {
  using quant::LayerKind;
  return kind == LayerKind::kConv        ? "conv2d"
         : kind == LayerKind::kAttention ? "attention"
                                         : "linear";
}

// One group, compiled both ways.
struct Pair {
  std::vector<std::string> taps;  // outputs of the denoiser that hold the inputs
  bool has_prompt_inputs;
  std::unique_ptr<runtime::Executor> plain, quantized;
  std::vector<size_t> layers;        // indices of the result
  std::vector<std::string> outputs;  // their names
};

class LayerRunner {
 public:
  LayerRunner(backend::Device& device, const SessionOptions& session,
              const GenerateOptions& generate)
      : device_(device),
        session_(session),
        generate_(generate),
        model_(open_model(session.model, session.cache_dir, session.logger)),
        plain_(model_, device, plan_options(false)),
        quantized_(model_, device, plan_options(true)) {}

  std::vector<LayerComparison> run() {
    if (quantized_.quantization() == nullptr) return {};
    generate_.batch_size = generate_.batch_count = 1;
    generate_.output_type = OutputType::kLatent;
    generate_.dump_latents.clear();
    const ResolvedRequest r = prepare_request(model_, generate_).resolved;
    const pipeline::Pipeline shapes = make_pipeline();
    for (const auto& wanted : shapes.wanted(r.width, r.height, 1, r.cfg, false, false)) {
      if (wanted.component == "unet") shape_ = wanted.shape;
    }
    Graph whole = plain_.graph("unet", shape_);
    // Halves of shortcuts are layers by themselves.
    const Quantization& quantization = *quantized_.quantization();
    quant::split_shortcuts(whole, quantization.recipe, quantization.record.get());
    const std::vector<Group> groups = groups_of(whole);
    for (size_t next = 0; next < groups.size();) {
      next = make_chunk(whole, groups, next);
      draw();
    }
    for (size_t i = 0; i < result_.size(); ++i) result_[i].sqnr = errors_[i].sqnr();
    return std::move(result_);
  }

  // What the results depend on; only after they were measured.
  [[nodiscard]] SqnrKey key() const {
    const Quantization* quantization = quantized_.quantization();
    if (quantization == nullptr) return {};
    return {session_.cache_dir, model_.checkpoint->content_hash(), quantization->recipe.hash(),
            quantization->record_hash};
  }

 private:
  [[nodiscard]] PlanOptions plan_options(bool quantize) const {
    PlanOptions options;
    options.precision = quantize ? session_.precision : Precision::kF32;
    options.vae_precision = Precision::kF32;
    if (quantize) options.quantization = session_.quantization;
    options.cache_dir = session_.cache_dir;
    options.logger = quantize ? Logger() : session_.logger;
    return options;
  }

  // Compiles groups from `first` on until they hold enough memory; returns the next one.
  size_t make_chunk(const Graph& whole, const std::vector<Group>& groups, size_t first) {
    pairs_.clear();
    graph_ = whole;
    uint64_t bytes = 0;
    size_t next = first;
    for (; next < groups.size() && bytes < kChunkBytes; ++next) {
      const Group& group = groups[next];
      Graph part = Extraction(whole, group).take();
      Graph rewritten = part;
      const auto& quantization = *quantized_.quantization();
      const quant::Applied applied =
          quant::apply(rewritten, quantization.recipe, quantization.record.get(), model_.weights());
      Pair pair{.taps = {},
                .has_prompt_inputs = false,
                .plain = nullptr,
                .quantized = nullptr,
                .layers = {},
                .outputs = {}};
      for (const quant::LayerReport& layer : applied.layers) {
        if (!layer.weight && !layer.activation && !layer.attention) continue;
        pair.layers.push_back(result_.size());
        pair.outputs.push_back(layer.name);
        result_.push_back({.name = layer.name,
                           .op = op_of(layer.kind),
                           .scheme = scheme_of(layer),
                           .note = note_of(layer)});
      }
      if (pair.layers.empty()) continue;
      for (const ValueId input : group.inputs) {
        pair.taps.push_back(fmt::format("layer_input/{}/{}", next, pair.taps.size()));
        graph_.add_output(pair.taps.back(), input);
        pair.has_prompt_inputs |= whole.value(input).rate == Rate::kPrompt;
        bytes += whole.type(input).num_bytes();
      }
      pair.plain = executor(std::move(part), {});
      pair.quantized = executor(std::move(rewritten), {"fold_quantize"});
      bytes += pair.plain->memory().constant_bytes + pair.quantized->memory().constant_bytes;
      pairs_.push_back(std::move(pair));
    }
    errors_.resize(result_.size());
    return next;
  }

  [[nodiscard]] std::unique_ptr<runtime::Executor> executor(
      Graph graph, const std::set<std::string>& disabled) const {
    return std::make_unique<runtime::Executor>(compiled(std::move(graph), disabled), 0, device_,
                                               model_.weights());
  }

  [[nodiscard]] std::shared_ptr<const runtime::Plan> compiled(
      Graph graph, const std::set<std::string>& disabled) const {
    return plan_of_graph(device_, "unet", std::move(graph), shape_, disabled);
  }

  // The denoiser shows the inputs of the chunk's layers; other components run as always.
  [[nodiscard]] pipeline::PlanSource plan(const pipeline::WantedPlan& wanted) const {
    if (wanted.component != "unet") return plain_.get(wanted.component, wanted.shape);
    return {
        .plan = compiled(graph_, {}), .weights = &model_.weights(), .origin = "built", .file = {}};
  }

  [[nodiscard]] pipeline::Pipeline make_pipeline() {
    return pipeline::Pipeline(
        {.device = &device_,
         .plans = [this](const pipeline::WantedPlan& wanted) { return plan(wanted); },
         .facts = model_.facts,
         .tokenizers = model_.tokenizers,
         .logger = session_.logger});
  }

  void draw() {
    if (pairs_.empty()) return;
    pipeline::Pipeline pipe = make_pipeline();
    const PreparedRequest prepared = prepare_request(model_, generate_);
    Tensor latents;
    pipeline::Request request =
        batch_request(prepared, generate_, generate_.seed.value_or(0), 0, latents);
    const auto last = static_cast<int>(request.schedule.rows.size()) - 1;
    request.on_step = [&](int row, const runtime::Executor& denoiser) {
      if (row == 0 || row == last / 2 || row == last) measure(denoiser);
    };
    request.progress = [&](const Progress& inner) {
      return !session_.progress || session_.progress(inner);
    };
    static_cast<void>(pipe.generate(request));
  }

  void measure(const runtime::Executor& denoiser) {
    for (const Pair& pair : pairs_) {
      for (runtime::Executor* side : {pair.plain.get(), pair.quantized.get()}) {
        for (size_t i = 0; i < pair.taps.size(); ++i) {
          side->set_input(input_name(i), denoiser.output(pair.taps[i]));
        }
        if (pair.has_prompt_inputs) side->run_prompt();
        side->run_step();
      }
      for (size_t i = 0; i < pair.layers.size(); ++i) {
        const Tensor reference = pair.plain->output(pair.outputs[i]);
        const Tensor value = pair.quantized->output(pair.outputs[i]);
        errors_[pair.layers[i]].add(reference.values<float>(), value.values<float>());
      }
    }
  }

  backend::Device& device_;
  const SessionOptions& session_;
  GenerateOptions generate_;
  Model model_;
  PlanMaker plain_, quantized_;
  Graph graph_;
  pipeline::ShapeKey shape_;
  std::vector<Pair> pairs_;
  std::vector<LayerComparison> result_;
  std::vector<metrics::ErrorSum> errors_;
};

}  // namespace

std::vector<LayerComparison> layer_sqnr(backend::Device& device, const SessionOptions& session,
                                        const GenerateOptions& generate) {
  LayerRunner runner(device, session, generate);
  std::vector<LayerComparison> layers = runner.run();
  LayerSqnr kept;
  for (const LayerComparison& layer : layers) kept[layer.name] = layer.sqnr;
  keep_sqnr(runner.key(), kept);
  return layers;
}

}  // namespace halftone::workflow
