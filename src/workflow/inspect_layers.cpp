#include "workflow/inspect_layers.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "halftone/error.h"

#include "base/file.h"
#include "runtime/plan_file.h"
#include "workflow/inspect.h"
#include "workflow/layer_table.h"
#include "workflow/model.h"
#include "workflow/quantization.h"
#include "workflow/quantize.h"

namespace halftone::workflow {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse(const std::string& text) { throw Error(Errc::kInvalidArgument, text); }

QuantizeReport of_plan(const LayersOptions& options) {
  const auto plan = runtime::load_plan(options.path);
  const auto rows = plan->metadata.find(kLayersKey);
  const std::string name = plan->fingerprint.entry("quantization");
  if (name.empty() || rows == plan->metadata.end()) {
    refuse(
        fmt::format("{}: a plan of {} that computes in {} and quantizes nothing; build one with "
                    "--precision int8 or --recipe",
                    options.path, plan->component, plan->fingerprint.entry("precision")));
  }
  if (options.sqnr) {
    refuse(
        fmt::format("{}: a plan holds no weights to measure with; give --sqnr with the model: "
                    "'halftone inspect --layers MODEL --recipe FILE --sqnr'",
                    options.path));
  }
  QuantizeReport report;
  report.name = name;
  report.origin = "plan " + options.path;
  report.recipe_hash = plan->fingerprint.entry("recipe");
  report.record_hash = plan->fingerprint.entry("calibration");
  const std::string where = fmt::format("{}: metadata {}", options.path, kLayersKey);
  const Json json = parse_json(rows->second, where);
  add_rows(parse_rows(JsonView(json, where)), report);
  set_sqnr(find_sqnr({options.session.cache_dir, plan->fingerprint.entry("weights"),
                      report.recipe_hash, report.record_hash}),
           report.layers);
  return report;
}

// The model whose folder a recipe was installed in; empty when it lies elsewhere.
std::string model_around(const fs::path& recipe) {
  const fs::path folder = fs::absolute(recipe).parent_path();
  std::error_code ignored;
  if (folder.filename() != "halftone") return {};
  const fs::path model = folder.parent_path();
  return fs::is_regular_file(model / "model_index.json", ignored) ? model.string() : std::string();
}

QuantizeReport of_table(const std::string& recipe) {
  fs::path table = recipe;
  const bool is_table = recipe.ends_with(".layers.json");
  if (!is_table) table.replace_extension(".layers.json");
  std::error_code ignored;
  if (!fs::is_regular_file(table, ignored)) {
    refuse(
        fmt::format("{}: what it does to each layer depends on the model; name it with -m (or "
                    "keep the table that quantize wrote, {}, beside the recipe)",
                    recipe, table.filename().string()));
  }
  QuantizeReport report = parse_layer_table(read_text_file(table), table.string());
  if (is_table) return report;
  const std::string hash = quant::load_recipe(recipe).hash();
  if (hash != report.recipe_hash) {
    refuse(fmt::format("{}: belongs to recipe {}, {} is {}; name the model with -m", table.string(),
                       report.recipe_hash.substr(0, 8), recipe, hash.substr(0, 8)));
  }
  report.origin = recipe;
  return report;
}

QuantizeReport of_model(backend::Device& device, const LayersOptions& options,
                        SessionOptions session) {
  const Model model = open_model(session.model, session.cache_dir, session.logger);
  if (!recipe_of(session.quantization, session.precision, model)) {
    const Precision p = session.precision;
    if (p == Precision::kF32 || p == Precision::kBF16 || p == Precision::kF16) {
      refuse(fmt::format("--layers: --precision {} quantizes nothing; wanted int8, fp8 or a recipe",
                         to_string(p)));
    }
    session.precision = Precision::kI8;
  }
  QuantizeOptions quantizing;
  quantizing.session = std::move(session);
  quantizing.sqnr = options.sqnr;
  quantizing.generate = options.generate;
  return quantize(device, quantizing);
}

// The denoiser's plan of a folder of plans; empty = there are no plans.
fs::path denoiser_plan_in(const fs::path& folder) {
  const std::vector<fs::path> plans = plans_of(folder);
  if (plans.empty()) return {};
  std::vector<std::string> denoisers;
  for (const fs::path& file : plans) {
    if (runtime::load_plan(file)->component == "unet")
      denoisers.push_back(file.filename().string());
  }
  if (denoisers.size() == 1) return folder / denoisers.front();
  refuse(denoisers.empty()
             ? fmt::format("{}: holds no plan of the unet, whose layers --layers shows",
                           folder.string())
             : fmt::format("{}: holds several plans of the unet; name one: {}", folder.string(),
                           fmt::join(denoisers, ", ")));
}

}  // namespace

QuantizeReport inspect_layers(backend::Device& device, const LayersOptions& options) {
  SessionOptions session = options.session;
  const fs::path path = options.path;
  std::error_code ignored;
  if (const fs::path plan = denoiser_plan_in(path); !plan.empty()) {
    LayersOptions of_file = options;
    of_file.path = plan.string();
    return of_plan(of_file);
  }
  const bool is_file = fs::is_regular_file(path, ignored);
  if (!is_file || path.extension() == ".safetensors") {
    session.model.model = options.path;
    return of_model(device, options, std::move(session));
  }
  if (path.extension() != ".json") {
    if (is_meant_as_plan(options.path)) return of_plan(options);
    refuse(fmt::format("{}: has no layers; --layers takes a plan, a recipe (.json) or a model",
                       options.path));
  }
  if (session.model.model.empty()) session.model.model = model_around(path);
  if (session.model.model.empty() || options.path.ends_with(".layers.json")) {
    return of_table(options.path);
  }
  session.quantization.recipe = options.path;
  return of_model(device, options, std::move(session));
}

}  // namespace halftone::workflow
