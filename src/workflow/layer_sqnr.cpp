#include "workflow/layer_sqnr.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "halftone/error.h"

#include "compile/compile.h"
#include "metrics/signal.h"
#include "quant/apply.h"
#include "quant/taps.h"
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
constexpr const char* kInput = "x";

ValueId operand(const Node& node, Role role) {
  for (const graph::Operand& input : node.inputs) {
    if (input.role == role) return input.value;
  }
  return graph::kNoValue;
}

// The layers that read one value.
struct Group {
  ValueId input;
  std::vector<const Node*> layers;
};

std::vector<Group> groups_of(const Graph& graph) {
  std::vector<Group> groups;
  for (const Node& node : graph.nodes()) {
    if (!quant::is_layer(graph, node)) continue;
    const ValueId x = operand(node, Role::kX);
    const Rate rate = graph.value(x).rate;
    if (rate != Rate::kPrompt && rate != Rate::kStep) continue;
    const bool alone = std::all_of(node.inputs.begin(), node.inputs.end(), [&](const auto& input) {
      return input.value == x || graph.value(input.value).rate == Rate::kLoad;
    });
    if (!alone) continue;
    const auto found = std::find_if(groups.begin(), groups.end(),
                                    [&](const Group& group) { return group.input == x; });
    if (found == groups.end()) {
      groups.push_back({x, {&node}});
    } else {
      found->layers.push_back(&node);
    }
  }
  return groups;
}

// A group's layers as a graph of their own: input "x", one output a layer.
class Extraction {
 public:
  Extraction(const Graph& from, const Group& group) : from_(from) {
    for (const Node& node : from.nodes()) {
      for (const ValueId output : node.outputs) producers_[output] = &node;
    }
    const graph::Value& x = from.value(group.input);
    copies_[group.input] = result_.add_input(kInput, x.type, x.rate);
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
  return fmt::format("W {} · A {}", name(layer.weight), name(layer.activation));
}

std::string note_of(const quant::LayerReport& layer) {
  std::string note = layer.why;
  if (layer.input_amax > 0) note += fmt::format(", amax {:.4g}", layer.input_amax);
  if (!layer.smoothing.empty()) note += ", smoothed";
  return note;
}

// Whether two candidates make the same of these layers.
bool same_form(const quant::Recipe& a, const quant::Recipe& b,
               const std::vector<const Node*>& layers) {
  const quant::RuleMatcher match_a(a), match_b(b);
  return std::ranges::all_of(layers, [&](const Node* layer) {
    const auto kind = std::holds_alternative<graph::Conv2d>(layer->attrs)
                          ? quant::LayerKind::kConv
                          : quant::LayerKind::kLinear;
    const quant::LayerSpec spec = match_a.choose(layer->name, kind).spec;
    if (spec != match_b.choose(layer->name, kind).spec) return false;
    const bool collects = spec.activation && !spec.activation->dynamic && !spec.input_amax;
    return !collects || a.collect == b.collect;
  });
}

// A form of a group, and the candidates that want it.
struct Variant {
  size_t model = 0;  // the first of them
  std::unique_ptr<runtime::Executor> executor;
  std::vector<std::pair<size_t, size_t>> results;  // candidate, index of its first layer
  std::vector<std::string> outputs;                // names of the layers that it quantizes
};

// A group, compiled as it is and in each form.
struct Measured {
  std::string tap;  // output of the denoiser that holds the input
  Rate rate;
  std::unique_ptr<runtime::Executor> plain;
  std::vector<Variant> variants;
};

class LayerRunner {
 public:
  LayerRunner(backend::Device& device, const SessionOptions& session,
              const GenerateOptions& generate, std::span<const std::string> prompts,
              std::span<const Quantization> candidates)
      : device_(device),
        session_(session),
        generate_(generate),
        prompts_(prompts),
        candidates_(candidates),
        model_(open_model(session.model, session.cache_dir, session.logger)),
        plain_(model_, device, plan_options()),
        result_(candidates.size()),
        errors_(candidates.size()) {}

  std::vector<std::vector<MeasuredLayer>> run() {
    generate_.batch_size = generate_.batch_count = 1;
    generate_.output_type = OutputType::kLatent;
    generate_.dump_latents.clear();
    const ResolvedRequest r = prepare_request(model_, generate_).resolved;
    const pipeline::Pipeline shapes = make_pipeline();
    for (const auto& wanted : shapes.wanted(r.width, r.height, 1, r.cfg, false, false)) {
      if (wanted.component == "unet") shape_ = wanted.shape;
    }
    const Graph whole = plain_.graph("unet", shape_);
    const std::vector<Group> groups = groups_of(whole);
    for (size_t next = 0; next < groups.size();) {
      next = make_chunk(whole, groups, next);
      draw();
    }
    for (size_t c = 0; c < result_.size(); ++c) {
      for (size_t i = 0; i < result_[c].size(); ++i) result_[c][i].sqnr = errors_[c][i].sqnr();
    }
    return std::move(result_);
  }

 private:
  [[nodiscard]] PlanOptions plan_options() const {
    PlanOptions options;
    options.precision = Precision::kF32;
    options.vae_precision = Precision::kF32;
    options.cache_dir = session_.cache_dir;
    options.logger = session_.logger;
    return options;
  }

  // Compiles groups from `first` on until they hold enough memory; returns the next one.
  size_t make_chunk(const Graph& whole, const std::vector<Group>& groups, size_t first) {
    measured_.clear();
    graph_ = whole;
    uint64_t bytes = 0;
    size_t next = first;
    for (; next < groups.size() && bytes < kChunkBytes; ++next) {
      const Group& group = groups[next];
      const Graph part = Extraction(whole, group).take();
      Measured measured{.tap = fmt::format("layer_input/{}", next),
                        .rate = whole.value(group.input).rate,
                        .plain = nullptr,
                        .variants = {}};
      for (size_t c = 0; c < candidates_.size(); ++c) add_variant(part, group, next, c, measured);
      if (measured.variants.empty()) continue;
      graph_.add_output(measured.tap, group.input);
      measured.plain = executor(part, {});
      bytes += whole.type(group.input).num_bytes() + measured.plain->memory().constant_bytes;
      for (const Variant& variant : measured.variants) {
        bytes += variant.executor->memory().constant_bytes;
      }
      measured_.push_back(std::move(measured));
    }
    return next;
  }

  void add_variant(const Graph& part, const Group& group, size_t index, size_t candidate,
                   Measured& measured) {
    const Quantization& wanted = candidates_[candidate];
    Variant* same = nullptr;
    for (Variant& variant : measured.variants) {
      const bool equal =
          same_form(candidates_[variant.model].recipe, wanted.recipe, group.layers) &&
          candidates_[variant.model].record_hash == wanted.record_hash;
      if (equal) same = &variant;
    }
    const size_t at = result_[candidate].size();
    if (same != nullptr) {
      const auto [model, from] = same->results.front();
      for (size_t i = 0; i < same->outputs.size(); ++i) {
        result_[candidate].push_back(result_[model][from + i]);
      }
      same->results.emplace_back(candidate, at);
    } else {
      Graph rewritten = part;
      const quant::Applied applied =
          quant::apply(rewritten, wanted.recipe, wanted.record.get(), model_.weights());
      Variant variant{
          .model = candidate, .executor = nullptr, .results = {{candidate, at}}, .outputs = {}};
      for (const quant::LayerReport& layer : applied.layers) {
        if (!layer.weight && !layer.activation) continue;
        variant.outputs.push_back(layer.name);
        result_[candidate].push_back({.report = layer, .group = index});
      }
      if (variant.outputs.empty()) return;
      variant.executor = executor(std::move(rewritten), {"fold_quantize"});
      measured.variants.push_back(std::move(variant));
    }
    errors_[candidate].resize(result_[candidate].size());
  }

  [[nodiscard]] std::unique_ptr<runtime::Executor> executor(
      Graph graph, const std::set<std::string>& disabled) const {
    return std::make_unique<runtime::Executor>(compiled(std::move(graph), disabled), 0, device_,
                                               model_.weights());
  }

  [[nodiscard]] std::shared_ptr<const runtime::Plan> compiled(
      Graph graph, const std::set<std::string>& disabled) const {
    compile::CompileOptions options;
    options.disabled_passes = disabled;
    runtime::Plan plan;
    plan.component = "unet";
    plan.fingerprint.entries = {{"component", "unet"}, {"precision", "fp32"}};
    plan.profiles.push_back(compile::compile_profile(std::move(graph), shape_, device_.info(),
                                                     device_.kernels(), options));
    return std::make_shared<const runtime::Plan>(std::move(plan));
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
    if (measured_.empty()) return;
    pipeline::Pipeline pipe = make_pipeline();
    const uint64_t seed = generate_.seed.value_or(0);
    for (size_t i = 0; i < prompts_.size(); ++i) {
      generate_.prompt = prompts_[i];
      const PreparedRequest prepared = prepare_request(model_, generate_);
      Tensor latents;
      pipeline::Request request = batch_request(prepared, generate_, seed + i, 0, latents);
      const auto last = static_cast<int>(request.schedule.rows.size()) - 1;
      request.on_step = [&](int row, const runtime::Executor& denoiser) {
        if (row == 0 || row == last / 2 || row == last) measure(denoiser);
      };
      request.progress = [&](const Progress& inner) {
        return !session_.progress || session_.progress(inner);
      };
      static_cast<void>(pipe.generate(request));
    }
  }

  static void run(runtime::Executor& executor, const Tensor& x, Rate rate) {
    executor.set_input(kInput, x);
    if (rate == Rate::kPrompt) executor.run_prompt();
    executor.run_step();
  }

  void measure(const runtime::Executor& denoiser) {
    for (const Measured& measured : measured_) {
      const Tensor x = denoiser.output(measured.tap);
      run(*measured.plain, x, measured.rate);
      for (const Variant& variant : measured.variants) {
        run(*variant.executor, x, measured.rate);
        for (size_t i = 0; i < variant.outputs.size(); ++i) {
          const Tensor reference = measured.plain->output(variant.outputs[i]);
          const Tensor value = variant.executor->output(variant.outputs[i]);
          for (const auto& [candidate, first] : variant.results) {
            errors_[candidate][first + i].add(reference.values<float>(), value.values<float>());
          }
        }
      }
    }
  }

  backend::Device& device_;
  const SessionOptions& session_;
  GenerateOptions generate_;
  std::span<const std::string> prompts_;
  std::span<const Quantization> candidates_;
  Model model_;
  PlanMaker plain_;
  Graph graph_;
  pipeline::ShapeKey shape_;
  std::vector<Measured> measured_;
  // A list a candidate.
  std::vector<std::vector<MeasuredLayer>> result_;
  std::vector<std::vector<metrics::ErrorSum>> errors_;
};

}  // namespace

std::vector<std::vector<MeasuredLayer>> measure_layers(backend::Device& device,
                                                       const SessionOptions& session,
                                                       const GenerateOptions& generate,
                                                       std::span<const std::string> prompts,
                                                       std::span<const Quantization> candidates) {
  return LayerRunner(device, session, generate, prompts, candidates).run();
}

std::vector<LayerComparison> layer_sqnr(backend::Device& device, const SessionOptions& session,
                                        const GenerateOptions& generate) {
  const Model model = open_model(session.model, session.cache_dir, session.logger);
  const auto quantization =
      resolve_quantization(session.quantization, session.precision, model, session.cache_dir, {});
  if (!quantization) return {};
  std::vector<LayerComparison> result;
  const auto measured = measure_layers(device, session, generate, std::span(&generate.prompt, 1),
                                       std::span(&*quantization, 1));
  LayerSqnr kept;
  for (const MeasuredLayer& layer : measured.front()) {
    result.push_back({.name = layer.report.name,
                      .op = layer.report.kind == quant::LayerKind::kConv ? "conv2d" : "linear",
                      .scheme = scheme_of(layer.report),
                      .sqnr = layer.sqnr,
                      .note = note_of(layer.report)});
    kept[layer.report.name] = layer.sqnr;
  }
  keep_sqnr({session.cache_dir, model.checkpoint->content_hash(), quantization->recipe.hash(),
             quantization->record_hash},
            kept);
  return result;
}

}  // namespace halftone::workflow
