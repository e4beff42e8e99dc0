#include "workflow/sensitivity.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>

#include <fmt/format.h>

#include "halftone/error.h"

#include "base/file.h"
#include "base/folder.h"
#include "base/hash.h"
#include "base/json.h"
#include "metrics/image_metrics.h"
#include "quant/apply.h"
#include "quant/imports/mixdq.h"
#include "quant/taps.h"
#include "workflow/calibrate.h"
#include "workflow/graph_plan.h"
#include "workflow/plans.h"
#include "workflow/request.h"
#include "workflow/suffix.h"

namespace halftone::workflow {
namespace {

namespace fs = std::filesystem;

using graph::Graph;
using graph::Node;
using graph::Rate;
using graph::Role;
using graph::ValueId;

constexpr const char* kOutput = "state";
constexpr std::string_view kSchema = "halftone.sensitivity/v2";

ValueId operand(const Node& node, Role role) {
  for (const graph::Operand& input : node.inputs) {
    if (input.role == role) return input.value;
  }
  return graph::kNoValue;
}

// "down_blocks.1.attentions.0" of "down_blocks.1.attentions.0.proj_in".
std::string block_of(const std::string& name) {
  size_t end = 0;
  for (int parts = 0; parts < 4 && end != std::string::npos; ++parts) {
    end = name.find('.', end + 1);
  }
  return name.substr(0, end);
}

// A step of a trajectory in full precision.
struct Point {
  std::map<ValueId, Tensor> values;  // that cross a cut
  std::map<std::string, Tensor> inputs;
  std::vector<float> before, after;  // the latent
  // The clean latent that the step predicts is after * a + before * b.
  float a = 1, b = 0;
  std::vector<uint8_t> picture;  // of the clean latent
  double energy = 0;             // of after - before
};

// Layers that are evaluated from one node on.
struct Block {
  size_t first_node = 0;
  std::vector<size_t> layers;  // of the table
};

class Measurement {
 public:
  Measurement(backend::Device& device, const SessionOptions& session,
              const GenerateOptions& generate, const SensitivityOptions& options)
      : device_(device),
        session_(session),
        generate_(generate),
        options_(options),
        model_(open_model(session.model, session.cache_dir, session.logger)),
        plans_(model_, device, plan_options()) {}

  SensitivityTable run() {
    choose_request();
    whole_ = plans_.graph("unet", shape_);
    load_record();
    list_layers();
    list_blocks();
    key_ = key();
    choose_file();
    resume();
    done_ = 0;
    for (const size_t todo : to_do_) done_ += todo == 0 ? 1 : 0;
    if (done_ < table_.layers.size()) {
      draw_points();
      fill_points();
      for (const Block& block : blocks_) measure(block);
    }
    std::erase_if(table_.layers, [](const LayerSensitivity& layer) {
      return std::ranges::none_of(layer.effects,
                                  [](const auto& effect) { return effect.has_value(); });
    });
    return std::move(table_);
  }

 private:
  [[nodiscard]] PlanOptions plan_options() const {
    PlanOptions options;
    options.precision = options.vae_precision = Precision::kF32;
    options.cache_dir = session_.cache_dir;
    options.logger = session_.logger;
    return options;
  }

  void choose_request() {
    generate_.batch_size = generate_.batch_count = 1;
    generate_.output_type = OutputType::kLatent;
    generate_.dump_latents.clear();
    if (!generate_.seed) generate_.seed = 0;
    prompts_ = options_.prompts;
    if (prompts_.empty()) {
      prompts_ = calibration_prompts(model_);
      const auto wanted = static_cast<size_t>(std::max(options_.num_points, 1));
      if (prompts_.size() < wanted) {
        throw Error(Errc::kInvalidArgument,
                    fmt::format("sensitivity: the model brings {} prompts, wanted {}; give them",
                                prompts_.size(), wanted));
      }
      prompts_.resize(wanted);
    }
    generate_.prompt = prompts_.front();
    resolved_ = prepare_request(model_, generate_).resolved;
    for (const auto& wanted :
         make_pipeline().wanted(resolved_.width, resolved_.height, 1, resolved_.cfg, true, false)) {
      if (wanted.component == "unet") shape_ = wanted.shape;
      if (wanted.component == "vae_decoder") vae_shape_ = wanted.shape;
    }
  }

  void load_record() {
    if (std::ranges::none_of(options_.formats,
                             [](const auto& format) { return format.recipe.needs_record(); })) {
      return;
    }
    QuantizationOptions only_record = session_.quantization;
    const fs::path path = only_record.ranges.empty() ? default_record(model_, session_.cache_dir)
                                                     : fs::path(only_record.ranges);
    record_ = std::make_shared<quant::CalibrationRecord>(quant::load_record(path));
  }

  void list_layers() {
    table_.formats.clear();
    std::vector<std::map<std::string, quant::LayerReport>> reports;
    for (const SensitivityFormat& format : options_.formats) {
      table_.formats.push_back(format.name);
      auto& by_name = reports.emplace_back();
      for (quant::LayerReport& layer : quant::resolve(whole_, format.recipe)) {
        if (!layer.weight && !layer.activation) continue;
        by_name.emplace(layer.name, std::move(layer));
      }
    }
    for (size_t i = 0; i < whole_.nodes().size(); ++i) {
      const Node& node = whole_.nodes()[i];
      if (!quant::is_layer(whole_, node)) continue;
      // Computed once a schedule row: never quantized (quant/apply.h).
      if (whole_.value(node.outputs[0]).rate == Rate::kSchedule) continue;
      LayerSensitivity layer;
      layer.name = node.name;
      for (const auto& by_name : reports) {
        const auto found = by_name.find(node.name);
        auto& effect = layer.effects.emplace_back();
        if (found == by_name.end()) continue;
        layer.kind = found->second.kind;
        effect.emplace();
        if (found->second.weight)
          effect->weight_bits = static_cast<int>(found->second.weight->bits);
        if (found->second.activation) {
          effect->input_bits = static_cast<int>(found->second.activation->bits);
        }
      }
      if (std::ranges::none_of(layer.effects, [](const auto& e) { return e.has_value(); }))
        continue;
      const Shape& weight = whole_.type(operand(node, Role::kWeight)).shape;
      layer.num_weights = weight.num_elements();
      layer.num_outputs = weight[0];
      layer.num_inputs = whole_.type(operand(node, Role::kX)).shape.num_elements();
      table_.layers.push_back(std::move(layer));
      nodes_.push_back(i);
    }
    to_do_.assign(table_.layers.size(), 1);
  }

  // A block begins at the first node that bears its name.
  void list_blocks() {
    std::map<std::string, size_t> first;
    for (size_t i = 0; i < whole_.nodes().size(); ++i) {
      first.emplace(block_of(whole_.nodes()[i].name), i);
    }
    for (size_t i = 0; i < table_.layers.size(); ++i) {
      // What runs before the step (text, micro-conditioning) may be listed anywhere.
      const size_t node = std::min(first.at(block_of(table_.layers[i].name)), nodes_[i]);
      if (blocks_.empty() || blocks_.back().first_node != node) blocks_.push_back({node, {}});
      blocks_.back().layers.push_back(i);
    }
  }

  [[nodiscard]] std::string key() const {
    Sha256 hash;
    const auto add = [&](const std::string& text) { hash.update_field(text); };
    add(std::string(kSchema));
    add(model_.checkpoint->content_hash());
    add(model_.loras ? model_.loras->identity("unet") : std::string());
    add(record_ ? record_->hash() : std::string());
    for (const SensitivityFormat& format : options_.formats) {
      add(format.name);
      add(format.recipe.hash());
    }
    for (const std::string& prompt : prompts_) add(prompt);
    add(fmt::format("{} {} {} {} {} {}x{} {} {}", resolved_.steps, resolved_.guidance,
                    resolved_.scheduler, resolved_.sigma_schedule, resolved_.rng, resolved_.width,
                    resolved_.height, *generate_.seed, options_.ssim));
    add(resolved_.negative_prompt);
    return to_hex(hash.finish());
  }

  void choose_file() {
    file_ = options_.file;
    if (file_.empty() && !session_.cache_dir.empty()) {
      file_ = fs::path(session_.cache_dir) / "sensitivity" / (key_.substr(0, 16) + ".json");
    }
    if (!file_.empty()) make_folders(file_.parent_path());
  }

  void resume() {
    std::error_code ignored;
    if (file_.empty() || !fs::is_regular_file(file_, ignored)) return;
    std::string made_for;
    const SensitivityTable kept =
        parse_sensitivity(read_text_file(file_), file_.string(), &made_for);
    if (made_for != key_ || kept.formats != table_.formats) return;
    for (const LayerSensitivity& layer : kept.layers) {
      const auto found = std::ranges::find(table_.layers, layer.name, &LayerSensitivity::name);
      if (found == table_.layers.end() || layer.effects.size() != found->effects.size()) continue;
      to_do_[static_cast<size_t>(found - table_.layers.begin())] = 0;
      *found = layer;
    }
  }

  void save() const {
    if (file_.empty()) return;
    SensitivityTable measured;
    measured.formats = table_.formats;
    for (size_t i = 0; i < table_.layers.size(); ++i) {
      if (to_do_[i] == 0) measured.layers.push_back(table_.layers[i]);
    }
    write_file_atomically(file_, to_json(measured, key_));
  }

  [[nodiscard]] std::shared_ptr<const runtime::Plan> compiled(const std::string& component,
                                                              Graph graph) const {
    return plan_of_graph(device_, component, std::move(graph), shape_, {"fold_quantize"});
  }

  [[nodiscard]] std::unique_ptr<runtime::Executor> executor(
      Graph graph, std::shared_ptr<runtime::ConstantStore> store) const {
    return std::make_unique<runtime::Executor>(
        compiled("unet", std::move(graph)), 0, device_, model_.weights(),
        runtime::ExecutorOptions{
            .arena = nullptr, .constants = std::move(store), .record = false, .progress = {}});
  }

  [[nodiscard]] pipeline::Pipeline make_pipeline() {
    return pipeline::Pipeline(
        {.device = &device_,
         .plans = [this](const pipeline::WantedPlan& wanted) -> pipeline::PlanSource {
           if (wanted.component != "unet") return plans_.get(wanted.component, wanted.shape);
           Graph graph = whole_;
           show_inputs(graph);
           return {.plan = compiled("unet", std::move(graph)),
                   .weights = &model_.weights(),
                   .origin = "built",
                   .file = {}};
         },
         .facts = model_.facts,
         .tokenizers = model_.tokenizers,
         .logger = session_.logger});
  }

  void draw_points() {
    pipeline::Pipeline pipe = make_pipeline();
    for (size_t i = 0; i < prompts_.size(); ++i) {
      generate_.prompt = prompts_[i];
      const PreparedRequest prepared = prepare_request(model_, generate_);
      Tensor latents;
      pipeline::Request request =
          batch_request(prepared, generate_, *generate_.seed + i, 0, latents);
      const size_t rows = request.schedule.rows.size();
      const size_t chosen = (2 * i + 1) * rows / (2 * prompts_.size());
      request.on_step = [&](int row, const runtime::Executor& denoiser) {
        if (row == static_cast<int>(chosen)) keep_point(request.schedule, chosen, denoiser);
      };
      request.progress = [&](const Progress& inner) { return forward(inner); };
      static_cast<void>(pipe.generate(request));
    }
  }

  void keep_point(const diffusion::Schedule& schedule, size_t index,
                  const runtime::Executor& denoiser) {
    Point point;
    for (const graph::Value& value : whole_.values()) {
      if (!value.is_input) continue;
      if (value.rate != Rate::kSchedule) {
        point.inputs[value.name] = denoiser.output(shown_input(value.name));
      } else {
        const float timestep = schedule.rows[index].timestep;
        point.inputs[value.name] = Tensor::from({1}, std::span(&timestep, 1));
      }
    }
    point.before = latent_of(point.inputs.at(kOutput));
    point.after = latent_of(denoiser.output(kOutput));
    for (size_t i = 0; i < point.after.size(); ++i) {
      const double change =
          static_cast<double>(point.after[i]) - static_cast<double>(point.before[i]);
      point.energy += change * change;
    }
    // x = s x0 + n e before and x' = s' x0 + n' e after it, with the e that the step predicts.
    const diffusion::ScheduleRow& row = schedule.rows[index];
    double next_signal = 1;
    double next_noise = 0;
    if (index + 1 < schedule.rows.size()) {
      next_signal = schedule.rows[index + 1].signal_scale;
      next_noise = schedule.rows[index + 1].noise_scale;
    }
    const double divisor = row.noise_scale * next_signal - next_noise * row.signal_scale;
    if (divisor != 0) {
      point.a = static_cast<float>(row.noise_scale / divisor);
      point.b = static_cast<float>(-next_noise / divisor);
    }
    points_.push_back(std::move(point));
  }

  [[nodiscard]] std::vector<float> latent_of(const Tensor& state) const {
    const auto count = static_cast<size_t>(shape_.at("height") * shape_.at("width") *
                                           model_.facts.latent_channels);
    const auto values = state.values<float>().first(count);
    return {values.begin(), values.end()};
  }

  // Runs each point once more to keep what the blocks read.
  void fill_points() {
    std::map<ValueId, bool> wanted;
    for (const Block& block : blocks_) {
      for (const ValueId id : suffix_of(whole_, block.first_node).inputs) wanted[id] = true;
    }
    Graph graph = whole_;
    for (const auto& [id, ignored] : wanted) {
      if (!whole_.value(id).is_input) graph.add_output(suffix_input(id), id);
    }
    constants_ = std::make_shared<runtime::ConstantStore>();
    const auto full = executor(std::move(graph), constants_);
    for (Point& point : points_) {
      for (const auto& [name, value] : point.inputs) full->set_input(name, value);
      full->run_prompt();
      full->run_schedule(0);
      full->run_step(0);
      point.after = latent_of(full->output(kOutput));
      for (const auto& [id, ignored] : wanted) {
        const graph::Value& value = whole_.value(id);
        point.values[id] =
            value.is_input ? point.inputs.at(value.name).clone() : full->output(suffix_input(id));
      }
      point.inputs.clear();
      if (options_.ssim) point.picture = picture_of(point, point.after);
    }
  }

  std::vector<uint8_t> picture_of(const Point& point, const std::vector<float>& after) {
    if (!decoder_) {
      const pipeline::PlanSource source = plans_.get("vae_decoder", vae_shape_);
      decoder_ = std::make_unique<runtime::Executor>(
          source.plan, *pipeline::find_profile(*source.plan, vae_shape_), device_,
          model_.weights());
    }
    Tensor latent(decoder_->input_type("latent"));
    auto values = latent.values<float>();
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = after[i] * point.a + point.before[i] * point.b;
    }
    decoder_->set_input("latent", latent);
    decoder_->run_step();
    const Tensor image = decoder_->output("image");
    std::vector<uint8_t> rgb;
    for (const float value : image.values<float>()) {
      const float scaled = std::isfinite(value) ? std::clamp(value, 0.0F, 1.0F) * 255.0F : 0.0F;
      rgb.push_back(static_cast<uint8_t>(std::nearbyint(scaled)));
    }
    return rgb;
  }

  void measure(const Block& block) {
    if (std::ranges::none_of(block.layers, [&](size_t i) { return to_do_[i] != 0; })) return;
    const Suffix suffix = suffix_of(whole_, block.first_node);
    for (const size_t index : block.layers) {
      if (to_do_[index] == 0) continue;
      LayerSensitivity& layer = table_.layers[index];
      for (size_t format = 0; format < layer.effects.size(); ++format) {
        if (layer.effects[format]) measure(suffix, layer, format);
      }
      to_do_[index] = 0;
      ++done_;
      save();
      forward({.stage = "sensitivity",
               .done = static_cast<int>(done_),
               .total = static_cast<int>(table_.layers.size())});
    }
  }

  void measure(const Suffix& suffix, LayerSensitivity& layer, size_t format) {
    quant::Recipe alone = options_.formats[format].recipe;
    const auto spec = quant::RuleMatcher(alone).choose(layer.name, layer.kind).spec;
    alone.rules = {{quant::exact_pattern(layer.name), layer.kind, spec, "alone"}};
    Graph graph = suffix.graph;
    const quant::Applied applied = quant::apply(graph, alone, record_.get(), model_.weights());
    const bool changed = std::ranges::any_of(applied.layers, [](const quant::LayerReport& report) {
      return report.weight || report.activation;
    });
    if (!changed) {
      layer.effects[format].reset();
      return;
    }
    // The other layers' weights are shared; this one's are forgotten.
    const auto unit =
        executor(std::move(graph), std::make_shared<runtime::ConstantStore>(*constants_));
    Effect& effect = *layer.effects[format];
    double energy = 0;
    for (Point& point : points_) {
      for (const ValueId id : suffix.inputs) unit->set_input(suffix_input(id), point.values.at(id));
      unit->run_prompt();
      unit->run_schedule(0);
      unit->run_step(0);
      const std::vector<float> after = latent_of(unit->output(kOutput));
      double noise = 0;
      for (size_t i = 0; i < after.size(); ++i) {
        const double error = static_cast<double>(after[i]) - static_cast<double>(point.after[i]);
        noise += error * error;
      }
      effect.shares.push_back(noise / std::max(point.energy, 1e-30));
      effect.noise += noise;
      energy += point.energy;
      if (options_.ssim) effect.ssim_loss += ssim_loss(point, after);
    }
    effect.noise /= std::max(energy, 1e-30);
    effect.ssim_loss /= static_cast<double>(points_.size());
  }

  double ssim_loss(const Point& point, const std::vector<float>& after) {
    const std::vector<uint8_t> picture = picture_of(point, after);
    const auto view = [&](const std::vector<uint8_t>& rgb) {
      return metrics::RgbView{resolved_.width, resolved_.height, rgb};
    };
    return 1.0 - metrics::ssim(view(point.picture), view(picture)).value_or(1.0);
  }

  bool forward(const Progress& progress) const {
    if (!session_.progress || session_.progress(progress)) return true;
    throw Error(Errc::kCancelled, "cancelled (sensitivity)");
  }

  backend::Device& device_;
  const SessionOptions& session_;
  GenerateOptions generate_;
  const SensitivityOptions& options_;
  Model model_;
  PlanMaker plans_;
  std::shared_ptr<const quant::CalibrationRecord> record_;
  std::vector<std::string> prompts_;
  ResolvedRequest resolved_;
  pipeline::ShapeKey shape_, vae_shape_;
  Graph whole_;
  std::vector<size_t> nodes_;  // of the table's layers
  std::vector<size_t> to_do_;  // 0 = measured
  std::vector<Block> blocks_;
  std::vector<Point> points_;
  std::shared_ptr<runtime::ConstantStore> constants_;
  std::unique_ptr<runtime::Executor> decoder_;
  std::string key_;
  fs::path file_;
  size_t done_ = 0;
  SensitivityTable table_;
};

}  // namespace

uint64_t LayerSensitivity::weight_bytes(int bits, int kept_bits) const {
  const auto count = static_cast<uint64_t>(num_weights);
  if (bits == 0) return count * static_cast<uint64_t>(kept_bits) / 8;
  return count * static_cast<uint64_t>(bits) / 8 + static_cast<uint64_t>(num_outputs) * 4;
}

SensitivityTable measure_sensitivity(backend::Device& device, const SessionOptions& session,
                                     const GenerateOptions& generate,
                                     const SensitivityOptions& options) {
  return Measurement(device, session, generate, options).run();
}

std::string to_json(const SensitivityTable& table, const std::string& key) {
  Json layers = Json(Json::Array{});
  for (const LayerSensitivity& layer : table.layers) {
    Json effects = Json(Json::Array{});
    for (const auto& effect : layer.effects) {
      if (!effect) {
        effects.push(Json());
        continue;
      }
      effects.push(Json::object({{"noise", effect->noise},
                                 {"shares", Json::array_of(effect->shares)},
                                 {"ssim_loss", effect->ssim_loss},
                                 {"weight_bits", effect->weight_bits},
                                 {"input_bits", effect->input_bits}}));
    }
    layers.push(Json::object({{"name", layer.name},
                              {"op", layer.kind == quant::LayerKind::kConv ? "conv2d" : "linear"},
                              {"num_weights", layer.num_weights},
                              {"num_inputs", layer.num_inputs},
                              {"num_outputs", layer.num_outputs},
                              {"effects", std::move(effects)}}));
  }
  return to_text(Json::object({{"schema", kSchema},
                               {"key", key},
                               {"formats", Json::array_of(table.formats)},
                               {"layers", std::move(layers)}}),
                 1) +
         "\n";
}

SensitivityTable parse_sensitivity(std::string_view text, const std::string& where,
                                   std::string* key) {
  const Json json = parse_json(text, where);
  const JsonView view(json, where);
  if (view.at("schema").string() != kSchema) view.at("schema").fail("is of another version");
  if (key != nullptr) *key = view.at("key").string();
  SensitivityTable table;
  table.formats = view.at("formats").strings();
  for (const JsonView& row : view.at("layers").items()) {
    LayerSensitivity layer;
    layer.name = row.at("name").string();
    const std::string& op = row.at("op").string();
    if (op != "conv2d" && op != "linear") row.at("op").fail("wanted conv2d or linear");
    layer.kind = op == "conv2d" ? quant::LayerKind::kConv : quant::LayerKind::kLinear;
    layer.num_weights = row.at("num_weights").integer(0);
    layer.num_inputs = row.at("num_inputs").integer(0);
    layer.num_outputs = row.at("num_outputs").integer(0);
    for (const JsonView& item : row.at("effects").items()) {
      auto& effect = layer.effects.emplace_back();
      if (item.value().is_null()) continue;
      effect = Effect{.noise = item.at("noise").number(),
                      .shares = item.at("shares").numbers(),
                      .ssim_loss = item.at("ssim_loss").number(),
                      .weight_bits = static_cast<int>(item.at("weight_bits").integer(0, 16)),
                      .input_bits = static_cast<int>(item.at("input_bits").integer(0, 16))};
    }
    if (layer.effects.size() != table.formats.size()) {
      row.at("effects").fail(fmt::format("got {} entries, wanted one a format ({})",
                                         layer.effects.size(), table.formats.size()));
    }
    table.layers.push_back(std::move(layer));
  }
  return table;
}

}  // namespace halftone::workflow
