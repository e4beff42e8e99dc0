// halftone quantize: a scheme becomes a recipe; and the table of layers that inspect prints too.
#include "halftone/quantize.h"

#include <algorithm>
#include <array>
#include <vector>

#include <fmt/format.h>

#include "layers.h"
#include "outputs.h"
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
  std::string weight_bits, act_bits, quant_params, quant_layers;
  double top_percentage = 90, target_bits = 0, target_act_bits = 0;
  std::string sensitivity = "sqnr", protect;
  std::string max_size;
  double min_psnr = 0, min_sqnr = 0, target_speedup = 0;
  int search_prompts = 8;
};

BitObjective objective_of(const std::string& name) {
  if (name == "ssim") return BitObjective::kSsim;
  if (name == "auto") return BitObjective::kAuto;
  return name == "uniform" ? BitObjective::kUniform : BitObjective::kSqnr;
}

// "120MiB", "1.5GB", "4000000".
uint64_t parse_size(const std::string& text) {
  size_t end = text.find_first_not_of("0123456789.");
  if (end == std::string::npos) end = text.size();
  const std::string unit = text.substr(end);
  constexpr std::array<std::pair<std::string_view, double>, 8> kUnits = {{{"", 1},
                                                                          {"B", 1},
                                                                          {"KB", 1e3},
                                                                          {"MB", 1e6},
                                                                          {"GB", 1e9},
                                                                          {"KiB", 1024},
                                                                          {"MiB", 1048576},
                                                                          {"GiB", 1073741824}}};
  for (const auto& [name, factor] : kUnits) {
    if (unit != name) continue;
    const double bytes = parse_number(text.substr(0, end), "--max-size") * factor;
    if (bytes >= 1 && bytes < 1e18) return static_cast<uint64_t>(bytes);
  }
  throw UsageError(fmt::format(
      "--max-size: got '{}', wanted bytes or a number with KB, MB, GB, KiB, MiB or GiB", text));
}

Budget budget_of(const CLI::App& app, const QuantizeArgs& a) {
  Budget budget;
  if (app.count("--min-psnr") > 0) budget.min_psnr = a.min_psnr;
  if (app.count("--min-sqnr") > 0) budget.min_sqnr = a.min_sqnr;
  if (app.count("--max-size") > 0) budget.max_bytes = parse_size(a.max_size);
  if (app.count("--target-speedup") > 0) budget.target_speedup = a.target_speedup;
  return budget;
}

// The mixes that were drawn, and the one that was taken.
std::string front_lines(const QuantizeReport& report) {
  std::string text;
  for (const FrontPoint& point : report.pareto) {
    if (!point.psnr) continue;
    text += fmt::format(
        "{} {:>9.2f} MiB  {:>6.2f} dB PSNR  {:>6.2f} dB latent SQNR  {:>8.2f} ms a "
        "step ",
        point.chosen ? "*" : " ", static_cast<double>(point.bytes) / 1048576.0, *point.psnr,
        point.sqnr.value_or(0), point.measured_step_ms.value_or(0));
    for (const auto& [name, count] : point.formats) {
      if (count > 0) text += fmt::format(" {} {}", count, name);
    }
    text += "\n";
  }
  return text;
}

void add_search_options(CLI::App& app, QuantizeArgs& a) {
  constexpr const char* kBudget = "Search under a budget (the mix of formats that the device runs)";
  app.add_option("--min-psnr", a.min_psnr,
                 "The smallest denoiser whose pictures have this mean PSNR against fp32, dB")
      ->group(kBudget);
  app.add_option("--min-sqnr", a.min_sqnr, "The same of the final latents' SQNR, dB")
      ->group(kBudget);
  app.add_option("--max-size", a.max_size,
                 "The best denoiser whose weights fit: bytes, or 120MiB, 1.5GB")
      ->group(kBudget);
  app.add_option("--target-speedup", a.target_speedup,
                 "The best denoiser whose step is so many times as fast as unquantized")
      ->group(kBudget);
  app.add_option("--search-prompts", a.search_prompts,
                 "Prompts that a search draws (default 8; of --prompts-file, else of the model)")
      ->check(CLI::Range(1, 1000))
      ->group(kBudget);
}

// Options that only another one makes use of.
void refuse_alone(const CLI::App& app) {
  struct Need {
    const char* flag;
    std::vector<const char*> one_of;
  };
  const Need needs[] = {{"--protect", {"--weight-bits", "--target-bits", "--target-act-bits"}},
                        {"--act-bits", {"--weight-bits"}},
                        {"--quant-params", {"--weight-bits"}},
                        {"--top-percentage", {"--quant-layers"}},
                        {"--sensitivity", {"--target-bits", "--target-act-bits"}}};
  for (const Need& need : needs) {
    const auto is_given = [&](const char* flag) { return app.count(flag) > 0; };
    if (!is_given(need.flag) || std::ranges::any_of(need.one_of, is_given)) continue;
    throw UsageError(fmt::format("{}: needs {}", need.flag, fmt::join(need.one_of, " or ")));
  }
}

void quantize(const CLI::App& app, const QuantizeArgs& a) {
  refuse_alone(app);
  need_folder_of(a.output, "--output");
  QuantizeOptions options;
  options.session = session_options(a.model, a.common);
  const QuantizationOptions& q = options.session.quantization;
  options.budget = budget_of(app, a);
  if (options.session.precision == Precision::kAuto && q.recipe.empty() && q.scheme.empty() &&
      !options.budget.given()) {
    options.session.precision = Precision::kI8;
  }
  options.generate = generate_options(app, a.request);
  const std::vector<std::string> prompts = read_prompts(a.request);
  if (!prompts.empty()) options.generate.prompt = prompts.front();
  options.prompts = prompts;
  options.num_prompts = a.search_prompts;
  options.output = a.output;
  options.install = a.install;
  options.sqnr = a.sqnr;
  options.weight_bits = a.weight_bits;
  options.act_bits = a.act_bits;
  options.quant_params = a.quant_params;
  options.quant_layers = a.quant_layers;
  options.top_percentage = a.top_percentage;
  if (app.count("--target-bits") > 0) options.target_bits = a.target_bits;
  if (app.count("--target-act-bits") > 0) options.target_act_bits = a.target_act_bits;
  options.objective = objective_of(a.sensitivity);
  options.protect = a.protect;
  const QuantizeReport report = halftone::quantize(options);
  if (!a.common.json.empty()) write_json(a.common, to_json(report));
  if (json_on_stdout(a.common)) return;
  if (a.common.verbose > 0) fmt::print("{}", layer_table(report));
  for (const std::string& file : report.files) fmt::print("{}\n", file);
  if (a.common.quiet) return;
  fmt::print(stderr, "{}{}", front_lines(report), layer_summary(report));
}

}  // namespace

int run_quantize(Args args) {
  QuantizeArgs a;
  CLI::App app(
      "Writes the recipe of a scheme and what it does to each layer; calibrates first when no "
      "record is there, with the model's prompts or, where it brings none, those given.",
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
  app.add_option("--quant-params,--ckpt", a.quant_params,
                 "MixDQ's ckpt.pth: ranges of the inputs instead of a calibration record")
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
  add_search_options(app, a);
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
    return flag.flag == "--w-config" || flag.flag == "--a-config" || flag.flag == "--ckpt" ||
           flag.flag == "--act-protect";
  });
  spelling.refused = refused;
  return run_verb({"quantize", app, args, spelling}, a.common, [&] { quantize(app, a); });
}

}  // namespace halftone::cli
