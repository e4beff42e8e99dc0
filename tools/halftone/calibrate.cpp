// halftone calibrate: prompts to a calibration record.
#include "halftone/calibrate.h"

#include <fmt/format.h>

#include "request_options.h"
#include "verbs.h"

namespace halftone::cli {
namespace {

struct CalibrateArgs {
  CommonOptions common;
  ModelArgs model;
  RequestArgs request;
  int batch_size = 2, steps = 0;
  std::string record, format = "int8", dump, from_dump;
  bool restart = false;
};

void add_options(CLI::App& app, CalibrateArgs& a) {
  add_model_options(app, a.model);
  add_request_options(app, a.request);
  constexpr const char* kGroup = "Calibration";
  app.add_option("--n-steps", a.steps, "Denoising steps (default 20, or the model's own if fewer)")
      ->check(CLI::Range(1, 10000))
      ->group(kGroup);
  app.add_option("--calib-batch-size", a.batch_size,
                 "Prompts whose statistics count as one call (default 2)")
      ->check(CLI::Range(1, 10000))
      ->group(kGroup);
  app.add_option("--output,-o", a.record, "Record file, as --ranges")->group(kGroup);
  app.add_option("--format", a.format, "What it is for: int8 or fp8; only sets --calib-size")
      ->check(CLI::IsMember({"int8", "fp8"}))
      ->group(kGroup);
  app.add_option("--dump", a.dump,
                 "Folder that gets what the denoiser was given and gave, a file a prompt")
      ->group(kGroup);
  app.add_option(
         "--from-dump", a.from_dump,
         "Take the denoiser's inputs from such a folder, or from MixDQ's calibration .pt, instead "
         "of drawing prompts")
      ->group(kGroup);
  app.add_flag("--restart", a.restart, "Discard what the record file holds")->group(kGroup);
  add_common(app, a.common);
}

// A dump holds the result of these.
void check_from_dump(const CLI::App& app, const CalibrateArgs& a) {
  if (a.from_dump.empty()) return;
  for (const CLI::Option* option : app.get_options()) {
    const std::string& group = option->get_group();
    const bool decides = group == "Prompt" || group == "Image" || group == "Sampling" ||
                         option->check_lname("n-steps") || option->check_lname("dump");
    if (!decides || option->count() == 0) continue;
    throw UsageError(fmt::format("--from-dump: the dump decides {}; leave it out",
                                 option->get_name(false, true)));
  }
}

void calibrate(const CLI::App& app, const CalibrateArgs& a) {
  check_from_dump(app, a);
  if (a.steps > 0 && a.request.steps > 0 && a.steps != a.request.steps) {
    throw UsageError("--n-steps and --steps both set the denoising steps; give one");
  }
  if (!a.record.empty() && !a.model.quant.ranges.empty() && a.record != a.model.quant.ranges) {
    throw UsageError("--output and --ranges both name the record; give one");
  }
  CalibrateOptions options;
  options.session = session_options(a.model, a.common);
  options.generate = generate_options(app, a.request);
  if (a.steps > 0) options.generate.steps = a.steps;
  options.prompts = read_prompts(a.request);
  options.calib_size = a.model.quant.calib_size > 0 ? a.model.quant.calib_size
                       : !a.from_dump.empty()       ? 0
                       : a.format == "fp8"          ? 128
                                                    : 32;
  options.batch_size = a.batch_size;
  options.record = a.record.empty() ? options.session.quantization.ranges : a.record;
  options.restart = a.restart;
  options.dump = a.dump;
  options.from_dump = a.from_dump;
  const CalibrateReport report = halftone::calibrate(options);
  if (!a.common.json.empty()) write_json(a.common, to_json(report));
  if (!json_on_stdout(a.common)) fmt::print("{}\n", report.record);
  if (a.common.quiet) return;
  fmt::print(stderr,
             "{} prompts x {} steps ({} found in the file), {} values, {} layers, {:.1f} s\n",
             report.samples, report.request.steps, report.resumed_samples, report.num_values,
             report.num_layers, report.total_ms / 1000.0);
}

}  // namespace

int run_calibrate(Args args) {
  CalibrateArgs a;
  CLI::App app("Runs prompts and records what quantization needs to know.", "halftone calibrate");
  add_options(app, a);
  return run_verb({"calibrate", app, args, request_spelling()}, a.common,
                  [&] { calibrate(app, a); });
}

}  // namespace halftone::cli
