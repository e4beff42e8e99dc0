// halftone build: plans for one size, into the cache and, with --save, into files.
#include <fmt/format.h>

#include "halftone/calibrate.h"
#include "halftone/session.h"

#include "request_options.h"
#include "summary.h"
#include "verbs.h"

namespace halftone::cli {
namespace {

struct BuildArgs {
  CommonOptions common;
  ModelArgs model;
  std::string size, component, save;
  int width = 0, height = 0, batch = 1;
  double cfg_scale = 0;
  bool img2img = false;
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
  add_common(app, a.common);
}

void build(const CLI::App& app, const BuildArgs& a) {
  BuildOptions options{.width = a.width,
                       .height = a.height,
                       .batch_size = a.batch,
                       .guidance = {},
                       .with_vae_encoder = a.img2img,
                       .component = a.component,
                       .save = a.save};
  if (!a.size.empty()) {
    const auto pair = parse_size(a.size, "--size");
    options.width = pair[0];
    options.height = pair[1];
  }
  if (app.count("--cfg-scale") > 0) options.guidance = a.cfg_scale;
  const SessionOptions wanted = session_options(a.model, a.common);
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
