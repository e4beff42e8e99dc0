#include "workflow/quantize.h"

#include <fmt/format.h>

#include "halftone/error.h"

#include "base/file.h"
#include "base/folder.h"
#include "base/json.h"
#include "pipeline/clock.h"
#include "quant/imports/mixdq.h"
#include "quant/imports/mixdq_params.h"
#include "workflow/auto_search.h"
#include "workflow/bit_search.h"
#include "workflow/calibrate.h"
#include "workflow/layer_sqnr.h"
#include "workflow/layer_table.h"
#include "workflow/mixdq_import.h"
#include "workflow/plans.h"

namespace halftone::workflow {
namespace {

namespace fs = std::filesystem;

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
    if (options_.install && model_.loras) {
      throw Error(
          Errc::kInvalidArgument,
          "--install: the model's folder keeps what is right without a LoRA; leave --install "
          "out and name the recipe with --recipe");
    }
    make_recipe_file();
    calibrate_if_missing(device_, session_, options_.prompts, options_.generate);
    auto chosen = resolve_quantization(session_.quantization, session_.precision, model_,
                                       session_.cache_dir, session_.logger);
    if (!chosen) {
      throw Error(
          Errc::kInvalidArgument,
          "nothing to quantize: give --precision int8 or fp8, a --quant-type or a --recipe");
    }
    quantization_ = std::move(*chosen);
    fill_layers();
    fill_sqnr();
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
    if (!options_.weight_bits.empty()) return import_mixdq(options_, model_, session_.logger);
    if (!options_.quant_layers.empty()) {
      const auto layers = quant::parse_onediff_layers(
          read_text_file(options_.quant_layers), options_.quant_layers, options_.top_percentage);
      const auto base = recipe_of(session_.quantization, session_.precision, model_);
      if (base) return quant::only_layers(*base, layers);
    }
    if (options_.budget.given()) {
      AutoSearch found = search_budget(device_, session_, options_);
      report_.pareto = std::move(found.points);
      return std::move(found.recipe);
    }
    if (!options_.target_bits && !options_.target_act_bits) return std::nullopt;
    calibrate_if_missing(device_, session_, options_.prompts, options_.generate);
    return searched_recipe();
  }

  // The widths are written as MixDQ's files too.
  quant::Recipe searched_recipe() {
    BitTargets targets;
    targets.weights = options_.target_bits.value_or(8);
    targets.inputs = options_.target_act_bits;
    targets.objective = options_.objective;
    targets.prompts = options_.prompts;
    if (!options_.protect.empty()) targets.protect = quant::read_layer_list(options_.protect);
    BitSearch found = search_bits(device_, session_, options_.generate, targets);
    report_.pareto = std::move(found.points);
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
    const quant::Applied applied =
        quant::apply(graph, quantization_.recipe, quantization_.record.get(), model_.weights());
    log_layers(applied, session_.logger);
    add_rows(layer_rows(applied), report_);
  }

  // Measured now, or by an earlier run.
  void fill_sqnr() {
    LayerSqnr sqnr;
    if (options_.sqnr) {
      for (const LayerComparison& layer : layer_sqnr(device_, session_, options_.generate)) {
        sqnr[layer.name] = layer.sqnr;
      }
    } else {
      sqnr = find_sqnr({session_.cache_dir, model_.checkpoint->content_hash(),
                        quantization_.recipe.hash(), quantization_.record_hash});
    }
    set_sqnr(sqnr, report_.layers);
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
      if (!report_.pareto.empty()) {
        const std::string title =
            fmt::format("{}: mixes of formats", model_.checkpoint->path().filename().string());
        put(fs::path(path).replace_extension(".html"),
            front_page(title, options_.budget, report_.pareto));
      }
    }
    if (!options_.install) return;
    const fs::path folder = model_.checkpoint->path() / "halftone";
    make_folders(folder);
    // The recipe last: who finds it (--precision auto) finds the record that it wants.
    if (quantization_.record) {
      const fs::path record = folder / "calibration.safetensors";
      quant::save(*quantization_.record, record);
      report_.files.push_back(record.string());
    }
    put(folder / "recipe.layers.json", to_json(report_));
    put(folder / "recipe.json", recipe);
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
  Json pareto = Json(Json::Array{});
  const auto number = [](const std::optional<double>& value) {
    return value ? Json(*value) : Json();
  };
  for (const FrontPoint& point : report.pareto) {
    Json formats = Json::object();
    for (const auto& [name, count] : point.formats) formats.set(name, count);
    pareto.push(Json::object({{"weight_bytes", point.bytes},
                              {"predicted_noise", point.noise},
                              {"predicted_step_ms", point.step_ms},
                              {"psnr_db", number(point.psnr)},
                              {"latent_sqnr_db", number(point.sqnr)},
                              {"measured_step_ms", number(point.measured_step_ms)},
                              {"chosen", point.chosen},
                              {"formats", std::move(formats)}}));
  }
  return to_text(Json::object({{"schema", "halftone.quantize/v1"},
                               {"name", report.name},
                               {"origin", report.origin},
                               {"recipe_hash", report.recipe_hash},
                               {"calibration_hash", report.record_hash},
                               {"weight_bytes_fp16", report.bytes_f16},
                               {"weight_bytes", report.bytes},
                               {"pareto", std::move(pareto)},
                               {"files", Json::array_of(report.files)},
                               {"total_ms", report.total_ms},
                               {"layers", workflow::to_value(report.layers)}}),
                 1) +
         "\n";
}

}  // namespace halftone
