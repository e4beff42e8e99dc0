// halftone build: plans for one size, into the cache and, with --save, into files.
#include <fmt/format.h>

#include "halftone/calibrate.h"
#include "halftone/session.h"

#include "dry_run.h"
#include "foreign.h"
#include "request_options.h"
#include "summary.h"
#include "verbs.h"

namespace halftone::cli {
namespace {

struct BuildArgs {
  CommonOptions common;
  ModelArgs model;
  std::string size, component, save, onnx, compiler_config;
  ShapesArgs shapes;
  int width = 0, height = 0, batch = 1;
  double cfg_scale = 0;
  bool img2img = false, dry_run = false;
};

void add_options(CLI::App& app, BuildArgs& a) {
  add_model_options(app, a.model);
  app.add_option("--width,-W", a.width, "Pixels, a multiple of 8")->group("Profile");
  app.add_option("--height,-H", a.height, "Pixels, a multiple of 8")->group("Profile");
  app.add_option("--size", a.size, "WxH")->group("Profile");
  app.add_option("--batch,--batch-size", a.batch, "Images denoised together")
      ->check(CLI::Range(1, 64))
      ->group("Profile");
  app.add_option("--cfg-scale,--guidance-scale", a.cfg_scale,
                 "1 or less = for runs without guidance (default: the model's)")
      ->group("Profile");
  app.add_flag("--img2img", a.img2img, "Also the VAE encoder")->group("Profile");
  app.add_option("--component", a.component,
                 "Only one of text_encoder, text_encoder_2, unet, vae_decoder, vae_encoder")
      ->group("Profile");
  app.add_option("--save,--saveEngine", a.save, "File (one component) or folder for the plans")
      ->group("Profile");
  app.add_option("--shapes", a.shapes.shapes,
                 "trtexec's shapes of the denoiser, sample:RxCxHxW,...: R rows are R images, or "
                 "R/2 with guidance")
      ->group("Profile");
  app.add_option("--optShapes", a.shapes.opt, "As --shapes, with a range")->group("Profile");
  app.add_option("--minShapes", a.shapes.min, "Start of the range")->group("Profile");
  app.add_option("--maxShapes", a.shapes.max, "End of the range")->group("Profile");
  app.add_option("--onnx", a.onnx, "trtexec's name of --model; a checkpoint, never an ONNX file")
      ->group("Profile");
  app.add_option("--compiler-config", a.compiler_config, "OneDiff's {\"mode\": \"WORD:WORD\"}")
      ->group("Profile");
  app.add_flag("--dry-run", a.dry_run, "Print the resolved request and plans as JSON and stop")
      ->group("Profile");
  add_common(app, a.common);
}

// trtexec builds from an exported ONNX file, this from the checkpoint that it came from.
void take_onnx(BuildArgs& a, const Logger& logger) {
  if (a.onnx.empty()) return;
  const bool named = !a.model.model.empty() || !a.model.version.empty();
  if (named) {
    log(logger, LogLevel::kInfo, "cli", "--onnx: not read; the plan is built from the checkpoint");
  } else if (a.onnx.ends_with(".onnx")) {
    throw UsageError(
        "not supported: --onnx FILE.onnx: plans are built from checkpoints; name the one it was "
        "exported from, --onnx FOLDER or -m FOLDER");
  } else {
    a.model.model = a.onnx;
  }
}

void take_shapes(const CLI::App& app, const BuildArgs& a, const Logger& logger,
                 BuildOptions& options) {
  const DenoiserShape shape = parse_shapes(a.shapes, logger);
  if (shape.rows == 0) return;
  if (options.width != 0 || app.count("--batch") > 0) {
    throw UsageError("--shapes and --size or --batch both set the shape; give one");
  }
  options.width = shape.width;
  options.height = shape.height;
  const bool guided = options.guidance ? *options.guidance > 1 : shape.rows % 2 == 0;
  if (guided && shape.rows % 2 != 0) {
    throw UsageError(
        fmt::format("--shapes: got {} rows, wanted an even number with guidance (or --cfg-scale 1)",
                    shape.rows));
  }
  if (!guided) options.guidance = 1;
  options.batch_size = guided ? shape.rows / 2 : shape.rows;
  log(logger, LogLevel::kInfo, "cli",
      fmt::format("--shapes: {} rows = {} images {}", shape.rows, options.batch_size,
                  guided ? "with guidance" : "without guidance"));
}

void build(const CLI::App& app, BuildArgs& a) {
  const Logger logger = make_logger(a.common);
  take_onnx(a, logger);
  if (!a.compiler_config.empty()) check_compiler_config(a.compiler_config, logger);
  const auto [width, height] = picture_size(app, a.size, a.width, a.height);
  BuildOptions options{.width = width,
                       .height = height,
                       .batch_size = a.batch,
                       .guidance = {},
                       .with_vae_encoder = a.img2img,
                       .component = a.component,
                       .save = a.save};
  if (app.count("--cfg-scale") > 0) options.guidance = a.cfg_scale;
  take_shapes(app, a, logger, options);
  // trtexec saves the one network that it builds.
  const bool is_file = options.save.ends_with(".plan") || options.save.ends_with(".engine");
  if (is_file && options.component.empty()) options.component = "unet";
  const SessionOptions wanted = session_options(a.model, a.common);
  if (a.dry_run) {
    GenerateOptions request;
    request.prompt = "a red apple";
    request.width = options.width;
    request.height = options.height;
    request.batch_size = options.batch_size;
    request.guidance = options.guidance;
    print_dry_run(wanted, request);
    return;
  }
  calibrate_if_missing(wanted);
  Session session(wanted);
  const BuildReport report = session.build(options);
  if (!a.common.quiet) fmt::print(stderr, "{}", plan_lines(report.plans));
  if (!a.common.json.empty()) write_json(a.common, to_json(report));
  if (json_on_stdout(a.common)) return;
  for (const PlanUse& plan : report.plans) {
    if (!plan.file.empty() && report.files.empty()) fmt::print("{}\n", plan.file);
  }
  for (const std::string& file : report.files) fmt::print("{}\n", file);
}

}  // namespace

int run_build(Args args) {
  BuildArgs a;
  CLI::App app("Makes the plans of a model for one size.", "halftone build");
  add_options(app, a);
  return run_verb({"build", app, args, request_spelling()}, a.common, [&] { build(app, a); });
}

}  // namespace halftone::cli
