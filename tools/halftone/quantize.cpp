// halftone quantize: a scheme becomes a recipe; and the table of layers that inspect prints too.
#include "halftone/quantize.h"

#include <fmt/format.h>

#include "layers.h"
#include "request_options.h"
#include "verbs.h"

namespace halftone::cli {
namespace {

struct QuantizeArgs {
  CommonOptions common;
  ModelArgs model;
  RequestArgs request;
  std::string output = "recipe.json";
  bool install = false, sqnr = false;
  std::string weight_bits, act_bits, quant_layers;
  double top_percentage = 90, target_bits = 0, target_act_bits = 0;
  std::string sensitivity = "sqnr", protect;
};

BitObjective objective_of(const std::string& name) {
  if (name == "ssim") return BitObjective::kSsim;
  if (name == "auto") return BitObjective::kAuto;
  return name == "uniform" ? BitObjective::kUniform : BitObjective::kSqnr;
}

void quantize(const CLI::App& app, const QuantizeArgs& a) {
  QuantizeOptions options;
  options.session = session_options(a.model, a.common);
  const QuantizationOptions& q = options.session.quantization;
  if (options.session.precision == Precision::kAuto && q.recipe.empty() && q.scheme.empty()) {
    options.session.precision = Precision::kI8;
  }
  options.generate = generate_options(app, a.request);
  const std::vector<std::string> prompts = read_prompts(a.request);
  if (!prompts.empty()) options.generate.prompt = prompts.front();
  options.output = a.output;
  options.install = a.install;
  options.sqnr = a.sqnr;
  options.weight_bits = a.weight_bits;
  options.act_bits = a.act_bits;
  options.quant_layers = a.quant_layers;
  options.top_percentage = a.top_percentage;
  if (a.target_bits > 0) options.target_bits = a.target_bits;
  if (a.target_act_bits > 0) options.target_act_bits = a.target_act_bits;
  options.objective = objective_of(a.sensitivity);
  options.protect = a.protect;
  const QuantizeReport report = halftone::quantize(options);
  if (!a.common.json.empty()) write_json(a.common, to_json(report));
  if (json_on_stdout(a.common)) return;
  if (a.common.verbose > 0) fmt::print("{}", layer_table(report));
  for (const std::string& file : report.files) fmt::print("{}\n", file);
  if (a.common.quiet) return;
  fmt::print(stderr, "{}", layer_summary(report));
}

}  // namespace

int run_quantize(Args args) {
  QuantizeArgs a;
  CLI::App app(
      "Writes the recipe of a scheme and what it does to each layer; calibrates first when no "
      "record is there.",
      "halftone quantize");
  add_model_options(app, a.model);
  add_request_options(app, a.request);
  constexpr const char* kGroup = "Result";
  app.add_option("--output,-o", a.output, "Recipe to write (default recipe.json)")->group(kGroup);
  app.add_option("--weight-bits,--w-config,--config-weight-mp", a.weight_bits,
                 "MixDQ's weight_*.yaml")
      ->group(kGroup);
  app.add_option("--act-bits,--a-config,--config-act-mp", a.act_bits, "MixDQ's act_*.yaml")
      ->group(kGroup);
  app.add_option("--quant-layers,--quant-submodules-config-path", a.quant_layers,
                 "OneDiff's {\"layer\": {\"ssim\": x}}")
      ->group(kGroup);
  app.add_option("--top-percentage", a.top_percentage, "Of these layers (default 90)")
      ->group(kGroup);
  app.add_option("--target-bits", a.target_bits,
                 "Search weights of 2, 4 or 8 bits a layer with this mean")
      ->group(kGroup);
  app.add_option("--target-act-bits", a.target_act_bits,
                 "Search inputs of 4 or 8 bits a layer with this mean")
      ->group(kGroup);
  app.add_option("--sensitivity", a.sensitivity,
                 "What the search keeps low: sqnr (noise of the denoiser's output, default), ssim "
                 "(of predicted pictures), auto (MixDQ's groups: ssim for ff and attn2), uniform "
                 "(no search)")
      ->check(CLI::IsMember({"sqnr", "ssim", "auto", "uniform"}))
      ->group(kGroup);
  app.add_option("--protect,--act-protect", a.protect,
                 "Layers whose inputs stay as they are, one a line (MixDQ's .pt list too)")
      ->group(kGroup);
  app.add_flag("--install", a.install,
               "Also put recipe and record into the model's folder, where --precision auto finds "
               "them")
      ->group(kGroup);
  app.add_flag("--sqnr", a.sqnr, "Measure each layer while drawing the prompt")->group(kGroup);
  add_common(app, a.common);
  // Refused by the verbs that draw, wanted here.
  Spelling spelling = request_spelling();
  std::vector<RefusedFlag> refused(spelling.refused.begin(), spelling.refused.end());
  std::erase_if(refused, [](const RefusedFlag& flag) {
    return flag.flag == "--w-config" || flag.flag == "--a-config";
  });
  spelling.refused = refused;
  return run_verb({"quantize", app, args, spelling}, a.common, [&] { quantize(app, a); });
}

}  // namespace halftone::cli
