#include "workflow/quantize.h"

#include <cmath>
#include <map>

#include <fmt/format.h>

#include "halftone/error.h"

#include "base/file.h"
#include "base/json.h"
#include "pipeline/clock.h"
#include "quant/imports/mixdq.h"
#include "workflow/bit_search.h"
#include "workflow/calibrate.h"
#include "workflow/layer_sqnr.h"
#include "workflow/plans.h"

namespace halftone::workflow {
namespace {

namespace fs = std::filesystem;

std::string describe(const std::optional<quant::QuantSpec>& spec) {
  if (!spec) return {};
  const bool is_integer = spec->dtype == DType::kI8;
  return fmt::format("{} {}{}{}", is_integer ? fmt::format("i{}", spec->bits) : "f8e4m3",
                     graph::to_string(spec->granularity), spec->dynamic ? " dynamic" : "",
                     spec->symmetric ? "" : " asymmetric");
}

uint64_t weights_of(const graph::Graph& graph, const std::string& layer) {
  for (const graph::Node& node : graph.nodes()) {
    if (node.name != layer || !quant::is_layer(graph, node)) continue;
    for (const graph::Operand& operand : node.inputs) {
      if (operand.role != graph::Role::kWeight) continue;
      return static_cast<uint64_t>(graph.type(operand.value).shape.num_elements());
    }
  }
  return 0;
}

class Quantizer {
 public:
  Quantizer(backend::Device& device, const QuantizeOptions& options)
      : device_(device),
        options_(options),
        session_(options.session),
        model_(
            open_model(options.session.model, options.session.cache_dir, options.session.logger)) {}

  QuantizeReport run() {
    const pipeline::Stopwatch clock;
    make_recipe_file();
    calibrate_if_missing(device_, session_);
    auto chosen = resolve_quantization(session_.quantization, session_.precision, model_,
                                       session_.cache_dir, session_.logger);
    if (!chosen) {
      throw Error(
          Errc::kInvalidArgument,
          "nothing to quantize: give --precision int8 or fp8, a --quant-type or a --recipe");
    }
    quantization_ = std::move(*chosen);
    fill_layers();
    if (options_.sqnr) measure();
    report_.name = quantization_.name;
    report_.origin = quantization_.origin;
    report_.recipe_hash = quantization_.recipe.hash();
    report_.record_hash = quantization_.record_hash;
    report_.total_ms = clock.ms();
    write();
    return std::move(report_);
  }

 private:
  // Imports and the search write their recipe first; all else then reads it as any other.
  void make_recipe_file() {
    const std::optional<quant::Recipe> recipe = other_recipe();
    if (!recipe) return;
    if (options_.output.empty()) {
      throw Error(Errc::kInvalidArgument, "--output: is needed, the recipe is written there");
    }
    write_file_atomically(options_.output, quant::to_json(*recipe));
    session_.quantization.recipe = options_.output;
  }

  std::optional<quant::Recipe> other_recipe() {
    if (!options_.weight_bits.empty()) {
      const auto read = [](const std::string& path) {
        return quant::parse_bit_table(read_text_file(path), path);
      };
      quant::BitTable inputs;
      if (!options_.act_bits.empty()) inputs = read(options_.act_bits);
      const bool ema = options_.session.quantization.calib_compat == "mixdq";
      return quant::mixdq_recipe(read(options_.weight_bits), inputs, ema);
    }
    if (!options_.quant_layers.empty()) {
      const auto layers = quant::parse_onediff_layers(
          read_text_file(options_.quant_layers), options_.quant_layers, options_.top_percentage);
      const auto base = recipe_of(session_.quantization, session_.precision, model_);
      if (base) return quant::only_layers(*base, layers);
    }
    if (!options_.target_bits && !options_.target_act_bits) return std::nullopt;
    calibrate_if_missing(device_, session_);
    return searched_recipe();
  }

  // The widths are written as MixDQ's files too.
  quant::Recipe searched_recipe() {
    BitTargets targets;
    targets.weights = options_.target_bits.value_or(8);
    targets.inputs = options_.target_act_bits;
    targets.objective = options_.objective;
    BitSearch found = search_bits(device_, session_, options_.generate, targets);
    report_.front = found.front;
    const fs::path path = options_.output;
    const auto put = [&](const char* extension, const quant::BitTable& table) {
      if (table.empty() || path.empty()) return;
      const fs::path file = fs::path(path).replace_extension(extension);
      write_file_atomically(file, quant::print_bit_table(table));
      report_.files.push_back(file.string());
    };
    put(".weight.yaml", found.weights);
    put(".act.yaml", found.inputs);
    return std::move(found.recipe);
  }

  void fill_layers() {
    PlanOptions plain;
    plain.precision = Precision::kF32;
    const PlanMaker plans(model_, device_, plain);
    const int64_t extent = model_.facts.sample_size;
    graph::Graph graph =
        plans.graph("unet", {{"batch", 1},
                             {"height", extent},
                             {"width", extent},
                             {"text_tokens", model_.tokenizers.front()->max_length()},
                             {"cfg", 1}});
    const graph::Graph before = graph;
    const quant::Applied applied =
        quant::apply(graph, quantization_.recipe, quantization_.record.get(), model_.weights());
    for (const quant::LayerReport& layer : applied.layers) add_layer(before, layer);
  }

  void add_layer(const graph::Graph& graph, const quant::LayerReport& layer) {
    QuantizedLayer row;
    row.name = layer.name;
    row.op = layer.kind == quant::LayerKind::kConv ? "conv2d" : "linear";
    row.weight = describe(layer.weight);
    row.input = describe(layer.activation);
    row.weight_bits = layer.weight ? static_cast<int>(layer.weight->bits) : 0;
    row.input_bits = layer.activation ? static_cast<int>(layer.activation->bits) : 0;
    row.input_amax = static_cast<double>(layer.input_amax);
    row.input_scale = static_cast<double>(layer.input_scale);
    row.smoothing = layer.smoothing;
    row.why = layer.why;
    row.num_weights = weights_of(graph, layer.name);
    report_.bytes_f16 += row.num_weights * 2;
    report_.bytes +=
        row.num_weights * static_cast<uint64_t>(row.weight_bits > 0 ? row.weight_bits : 16) / 8;
    report_.layers.push_back(std::move(row));
  }

  void measure() {
    std::map<std::string, double> sqnr;
    for (const LayerComparison& layer : layer_sqnr(device_, session_, options_.generate)) {
      sqnr[layer.name] = layer.sqnr;
    }
    for (QuantizedLayer& layer : report_.layers) {
      if (const auto found = sqnr.find(layer.name); found != sqnr.end()) {
        layer.sqnr = found->second;
      }
    }
  }

  void write() {
    const std::string recipe = quant::to_json(quantization_.recipe);
    const auto put = [&](const fs::path& path, const std::string& text) {
      write_file_atomically(path, text);
      report_.files.push_back(path.string());
    };
    if (!options_.output.empty()) {
      const fs::path path = options_.output;
      put(path, recipe);
      put(fs::path(path).replace_extension(".layers.json"), to_json(report_));
    }
    if (!options_.install) return;
    const fs::path folder = model_.checkpoint->path() / "halftone";
    fs::create_directories(folder);
    put(folder / "recipe.json", recipe);
    put(folder / "recipe.layers.json", to_json(report_));
    if (quantization_.record) {
      const fs::path record = folder / "calibration.safetensors";
      quant::save(*quantization_.record, record);
      report_.files.push_back(record.string());
    }
  }

  backend::Device& device_;
  const QuantizeOptions& options_;
  SessionOptions session_;
  Model model_;
  Quantization quantization_;
  QuantizeReport report_;
};

}  // namespace

QuantizeReport quantize(backend::Device& device, const QuantizeOptions& options) {
  return Quantizer(device, options).run();
}

}  // namespace halftone::workflow

namespace halftone {

std::string to_json(const QuantizeReport& report) {
  Json layers = Json(Json::Array{});
  for (const QuantizedLayer& layer : report.layers) {
    Json row = Json::object({{"name", layer.name},
                             {"op", layer.op},
                             {"weight", layer.weight},
                             {"input", layer.input},
                             {"weight_bits", layer.weight_bits},
                             {"input_bits", layer.input_bits},
                             {"input_amax", layer.input_amax},
                             {"input_scale", layer.input_scale},
                             {"smoothing", layer.smoothing},
                             {"why", layer.why},
                             {"num_weights", layer.num_weights}});
    if (layer.sqnr) row.set("sqnr_db", *layer.sqnr);
    layers.push(std::move(row));
  }
  return to_text(Json::object({{"schema", "halftone.quantize/v1"},
                               {"name", report.name},
                               {"origin", report.origin},
                               {"recipe_hash", report.recipe_hash},
                               {"calibration_hash", report.record_hash},
                               {"weight_bytes_fp16", report.bytes_f16},
                               {"weight_bytes", report.bytes},
                               {"front", report.front},
                               {"files", Json::array_of(report.files)},
                               {"total_ms", report.total_ms},
                               {"layers", std::move(layers)}}),
                 1) +
         "\n";
}

}  // namespace halftone
