// halftone inspect: what is in a file.
#include "halftone/inspect.h"

#include <filesystem>

#include <fmt/format.h>

#include "halftone/quantize.h"

#include "layers.h"
#include "request_options.h"
#include "verbs.h"

namespace halftone::cli {

namespace {

// What a plan, a recipe or the recipe of a model does to each layer.
void show_layers(const std::string& path, ModelArgs model, bool sqnr,
                 const std::vector<std::string>& prompts, const CommonOptions& common) {
  LayersOptions options;
  const bool named = !model.model.empty();
  if (!named) model.model = path;
  options.session = session_options(model, common);
  std::error_code ignored;
  const bool is_file = std::filesystem::is_regular_file(path, ignored);
  const bool is_model = !is_file || path.ends_with(".safetensors");
  options.path = is_model ? options.session.model.model : path;
  if (!named && !is_model) options.session.model.model.clear();
  options.sqnr = sqnr;
  if (!prompts.empty()) options.generate.prompt = prompts.front();
  options.generate.seed = 0;
  const QuantizeReport report = inspect_layers(options);
  if (!common.json.empty()) write_json(common, to_json(report));
  if (!json_on_stdout(common)) {
    fmt::print("{}{}", layer_table(report), layer_summary(report));
  }
}

void refuse_without_layers(const CLI::App& app, Args args) {
  for (const CLI::Option* option : app.get_options()) {
    const bool needs = option->get_group() == "Quantization" || option->check_lname("sqnr") ||
                       option->check_lname("prompt") || option->check_lname("precision") ||
                       option->check_lname("model");
    if (!needs || !is_typed(*option, args)) continue;
    throw UsageError(fmt::format("{}: needs --layers", option->get_name(false, true)));
  }
}

}  // namespace

int run_inspect(Args args) {
  CommonOptions common;
  std::string path, metadata_format = "text";
  bool tensors = false, metadata = false, layers = false, sqnr = false;
  ModelArgs model;
  std::vector<std::string> prompts;
  CLI::App app(
      "Shows what is in a plan (or a folder of them), model, safetensors file or image. Only "
      "headers are read.",
      "halftone inspect");
  app.add_option("path", path, "File, folder or ORG/NAME")->required();
  app.add_flag("--tensors", tensors, "List every tensor");
  app.add_flag("--layers", layers,
               "How each layer of a plan (or a folder's), a recipe or a model is quantized: bits, "
               "amax, scale, SQNR, why");
  app.add_option("-m,--model", model.model, "With --layers RECIPE: its model");
  app.add_flag("--sqnr", sqnr,
               "With --layers: measure each layer now (draws a picture); else what an earlier run "
               "measured is shown");
  app.add_option("-p,--prompt", prompts, "With --sqnr: what is drawn");
  app.add_option("--precision", model.precision, "With --layers: int8 or fp8");
  add_quant_options(app, model.quant);
  app.add_flag("--metadata", metadata, "Accepted: metadata are always shown");
  app.add_option("--metadata-format", metadata_format, "text or json")
      ->check(CLI::IsMember({"text", "json"}));
  add_common(app, common);
  return run_verb({"inspect", app, args, {}}, common, [&] {
    if (layers) {
      return show_layers(path, model, sqnr, prompts, common);
    }
    refuse_without_layers(app, args);
    const InspectResult result = inspect({.path = resolve_model(path, common),
                                          .hf_cache = common.hf_cache,
                                          .tensors = tensors,
                                          .verbose = common.verbose > 0});
    if (metadata_format == "json" && common.json.empty()) common.json = "-";
    if (!common.json.empty()) write_json(common, result.json);
    if (!json_on_stdout(common)) fmt::print("{}", result.text);
  });
}

}  // namespace halftone::cli
