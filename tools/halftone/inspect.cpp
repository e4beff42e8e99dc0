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

// What a recipe does to each layer of a model; by default the recipe in the model's folder, else
// that of --precision int8.
void inspect_layers(ModelArgs model, bool sqnr, const CommonOptions& common) {
  QuantizeOptions options;
  options.session = session_options(model, common);
  options.sqnr = sqnr;
  SessionOptions& session = options.session;
  const auto installed = std::filesystem::path(session.model.model) / "halftone" / "recipe.json";
  const bool chosen = session.precision != Precision::kAuto ||
                      !session.quantization.recipe.empty() || !session.quantization.scheme.empty();
  std::error_code ignored;
  if (!chosen && !std::filesystem::exists(installed, ignored)) session.precision = Precision::kI8;
  const QuantizeReport report = quantize(options);
  if (!common.json.empty()) write_json(common, to_json(report));
  if (!json_on_stdout(common)) {
    fmt::print("{}{}", layer_table(report), layer_summary(report));
  }
}

}  // namespace

int run_inspect(Args args) {
  CommonOptions common;
  std::string path, metadata_format = "text";
  bool tensors = false, metadata = false, layers = false, sqnr = false;
  ModelArgs model;
  CLI::App app("Shows what is in a plan, model, safetensors file or image. Only headers are read.",
               "halftone inspect");
  app.add_option("path", path, "File, folder or ORG/NAME")->required();
  app.add_flag("--tensors", tensors, "List every tensor");
  app.add_flag("--layers", layers,
               "How each layer of a model is quantized: bits, amax, scale and why");
  app.add_flag("--sqnr", sqnr, "With --layers: measure each layer (draws a picture)");
  app.add_option("--precision", model.precision, "With --layers: int8 or fp8");
  add_quant_options(app, model.quant);
  app.add_flag("--metadata", metadata, "Accepted: metadata are always shown");
  app.add_option("--metadata-format", metadata_format, "text or json")
      ->check(CLI::IsMember({"text", "json"}));
  add_common(app, common);
  return run_verb({"inspect", app, args, {}}, common, [&] {
    if (layers) {
      model.model = path;
      return inspect_layers(model, sqnr, common);
    }
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
