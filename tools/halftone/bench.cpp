// halftone bench e2e: whole images, repeatedly; halftone bench kernels: single kernels.
#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "halftone/calibrate.h"
#include "halftone/kernels.h"
#include "halftone/session.h"

#include "dry_run.h"
#include "request_options.h"
#include "summary.h"
#include "verbs.h"

namespace halftone::cli {
namespace {

struct BenchArgs {
  CommonOptions common;
  ModelArgs model;
  RequestArgs request;
  int warmup = 1, iterations = 3;
  double sustain = 0;
  bool no_profile = false, dry_run = false, kernels = false;
  std::string network, filter, compare;
  std::vector<std::string> dtypes;
};

std::string kernel_table(const KernelBenchReport& report) {
  std::string text = fmt::format("{} {}, peaks {}: {:.0f} GB/s", report.device, report.arch,
                                 report.peaks.source, report.peaks.gbyte_per_second);
  for (const auto& [dtype, tflops] : report.peaks.tflops) {
    text += fmt::format(", {} {:.3g} TOP/s", dtype, tflops);
  }
  text += fmt::format("\n{:<13} {:<36} {:>5} {:<7} {:<32} {:>10} {:>9} {:>7} {:>7}\n", "network",
                      "shape", "calls", "type", "kernel", "us", "TOP/s", "GB/s", "share");
  for (const KernelTime& row : report.kernels) {
    text += fmt::format("{:<13} {:<36} {:>5} {:<7} {:<32} ", row.model, row.shape, row.calls,
                        row.dtype, row.kernel);
    text += row.problem.empty()
                ? fmt::format("{:>10.1f} {:>9.3f} {:>7.0f} {:>6.0f}%  {}", row.us, row.tflops,
                              row.gbyte_per_second, 100 * row.share, power_words(row.power))
                : row.problem;
    text.erase(text.find_last_not_of(' ') + 1);
    text += '\n';
  }
  return text;
}

void bench_single_kernels(const BenchArgs& a) {
  if (a.request.positionals.size() > (a.kernels ? 0U : 1U)) {
    throw UsageError(
        fmt::format("bench kernels: takes no prompt, got '{}'", a.request.positionals.back()));
  }
  const KernelBenchReport report = bench_kernels({.device = a.common.device,
                                                  .threads = a.common.threads,
                                                  .cache_dir = a.common.cache_dir,
                                                  .network = a.network,
                                                  .filter = a.filter,
                                                  .dtypes = a.dtypes,
                                                  .batch_size = a.request.batch_size,
                                                  .iterations = a.iterations,
                                                  .sustain_s = a.sustain,
                                                  .logger = make_logger(a.common),
                                                  .progress = make_progress(a.common)});
  if (!a.common.json.empty()) write_json(a.common, to_json_lines(report));
  if (!json_on_stdout(a.common)) fmt::print("{}", kernel_table(report));
}

// The same work in two precisions, module by module.
std::string speedup_table(const BenchReport& a, const BenchReport& b, const std::string& name_a,
                          const std::string& name_b) {
  std::string text =
      fmt::format("\n| {:^15} | {:^14} | {:^14} | {:^8} |\n", "Module", name_a, name_b, "speed-up");
  const auto line = [&](std::string_view name, double ms_a, double ms_b) {
    text += fmt::format("| {:^15} | {:>11.2f} ms | {:>11.2f} ms | {:>7.2f}x |\n", name, ms_a, ms_b,
                        ms_b > 0 ? ms_a / ms_b : 0.0);
  };
  for (const auto& [name, spread] : a.modules) {
    const auto same = std::ranges::find(b.modules, name, &std::pair<std::string, Spread>::first);
    if (same != b.modules.end()) line(name, spread.median, same->second.median);
  }
  line("Pipeline", a.total_ms.median, b.total_ms.median);
  return text + energy_row(a.power, b.power);
}

bool is_plain(Precision precision) {
  return precision == Precision::kF32 || precision == Precision::kBF16 ||
         precision == Precision::kF16;
}

// What --compare asks for. A plan is of the one precision, and a plain one is not quantized.
std::optional<SessionOptions> compared_session(const BenchArgs& a) {
  if (a.compare.empty()) return std::nullopt;
  ModelArgs other = a.model;
  other.precision = a.compare;
  SessionOptions second = session_options(other, a.common);
  second.plan.clear();
  if (is_plain(second.precision)) second.quantization = {};
  return second;
}

// Returns false when --reference-check found a wrong node.
bool bench(const CLI::App& app, BenchArgs& a) {
  const std::string kind = a.request.positionals.empty() ? "" : a.request.positionals.front();
  if (a.kernels || kind == "kernels") {
    bench_single_kernels(a);
    return true;
  }
  if (kind != "e2e") {
    throw UsageError(
        "bench: got no kind, wanted 'halftone bench e2e [prompt]' or 'halftone bench kernels'");
  }
  a.request.positionals.erase(a.request.positionals.begin());
  const std::vector<std::string> prompts = read_prompts(a.request);
  BenchOptions options{.generate = generate_options(app, a.request),
                       .warmup = a.warmup,
                       .iterations = a.iterations,
                       .profile = !a.no_profile};
  if (prompts.size() > 1) {
    log(make_logger(a.common), LogLevel::kWarning, "bench",
        fmt::format("{} prompts: only the first is drawn", prompts.size()));
  }
  options.generate.prompt = prompts.empty() ? "a red apple" : prompts.front();
  if (!options.generate.seed) options.generate.seed = 0;
  SessionOptions wanted = session_options(a.model, a.common);
  const std::optional<SessionOptions> second = compared_session(a);
  QuantizationOptions& quantization = wanted.quantization;
  if (second && is_plain(wanted.precision) && quantization.scheme.empty() &&
      quantization.recipe.empty()) {
    quantization = {};  // meant for what it is compared with
  }
  if (a.dry_run) {
    print_dry_run(wanted, options.generate);
    return true;
  }
  calibrate_if_missing(wanted);
  Session session(wanted);
  const BenchReport report = session.bench(options);
  std::string json = to_json_lines(report);
  std::string table = bench_table(report);
  if (second) {
    calibrate_if_missing(*second);
    Session session_b(*second);
    const BenchReport report_b = session_b.bench(options);
    json += "\n" + to_json_lines(report_b);
    table += bench_table(report_b) + speedup_table(report, report_b, a.model.precision, a.compare);
  }
  if (!a.common.json.empty()) write_json(a.common, json);
  if (!json_on_stdout(a.common)) fmt::print("{}", table);
  return std::ranges::all_of(report.last.checks, &NodeCheck::ok);
}

}  // namespace

int run_bench(Args args) {
  BenchArgs a;
  CLI::App app(
      "Measures whole images: halftone bench e2e [prompt]; or single kernels: halftone bench "
      "kernels.",
      "halftone bench");
  add_model_options(app, a.model);
  add_request_options(app, a.request);
  app.add_option("--warmup,--warmUp,--num-warmup-runs", a.warmup, "Runs before measuring")
      ->check(CLI::Range(0, 1000));
  app.add_option("--iterations,--avgRuns", a.iterations, "Measured runs")
      ->check(CLI::Range(1, 10000));
  app.add_flag("--kernels", a.kernels, "As 'halftone bench kernels'");
  app.add_option(
      "--network", a.network,
      "kernels: sdxl-1024-b2, turbo-512-b1, sd3-1024-b2, vae-1024; sdxl-1024-b2-measured and "
      "vae-1024-measured: with group statistics; turbo-512-b1-norms: with row statistics; "
      "sdxl-1024-b2-tensor: one dynamic scale, with and without amax; turbo-512-b1-text and "
      "sdxl-1024-b2-text: the text's keys and values with 8-bit weights from memory; "
      "default all; each for --batch-size images");
  app.add_option("--filter", a.filter, "kernels: only shapes whose text holds this");
  app.add_option("--dtype", a.dtypes, "kernels: f32, bf16, f16, i8, f8e4m3; repeatable")
      ->allow_extra_args(false);
  app.add_option("--sustain", a.sustain,
                 "kernels: seconds that each runs before it is measured, as a hot device is slower")
      ->check(CLI::Range(0.0, 60.0));
  app.add_option("--compare", a.compare,
                 "Then the same in this precision (int8, fp8), and the speed-up of each module");
  app.add_flag("--no-profile", a.no_profile, "Without the time per operator class");
  app.add_flag("--dry-run", a.dry_run, "Print the resolved request and plans as JSON and stop");
  add_common(app, a.common);
  bool is_right = true;
  const int exit = run_verb({"bench", app, args, request_spelling()}, a.common,
                            [&] { is_right = bench(app, a); });
  return exit == 0 && !is_right ? kExitQualityGate : exit;
}

}  // namespace halftone::cli
