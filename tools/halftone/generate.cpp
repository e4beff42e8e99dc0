// halftone generate: prompts to images.
#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "halftone/calibrate.h"
#include "halftone/session.h"

#include "dry_run.h"
#include "foreign.h"
#include "outputs.h"
#include "request_options.h"
#include "summary.h"
#include "verbs.h"

namespace halftone::cli {
namespace {

struct GenerateArgs {
  CommonOptions common;
  ModelArgs model;
  RequestArgs request;
  OutputArgs output;
  std::string format = "png", save_report, mode, compiler_config;
  bool no_metadata = false, dry_run = false, many_resolutions = false;
  int warmup_runs = 0;
};

void add_options(CLI::App& app, GenerateArgs& a) {
  add_model_options(app, a.model);
  add_request_options(app, a.request);
  app.add_option("--output,-o,--saved-image,--output-image", a.output.output,
                 "File; %03d counts from 0; several images get _1, _2 (default output.png)")
      ->group("Output");
  app.add_option("--output-dir", a.output.output_dir, "Folder for relative outputs")
      ->group("Output");
  app.add_option("--format", a.format, "png")->group("Output");
  app.add_flag("--no-clobber", a.output.no_clobber, "Refuse to replace a file")->group("Output");
  app.add_flag("--no-metadata,--disable-image-metadata", a.no_metadata,
               "Leave the request out of the PNG")
      ->group("Output");
  app.add_option("--save-report", a.save_report,
                 "Write the JSON report to a file; of several prompts an array, as --json does")
      ->group("Output");
  app.add_option("--num-warmup-runs", a.warmup_runs, "Runs before the measured one")
      ->check(CLI::Range(0, 1000))
      ->group("Output");
  app.add_flag("--dry-run", a.dry_run, "Print the resolved request and plans as JSON and stop")
      ->group("Output");
  app.add_flag("--run-multiple-resolutions", a.many_resolutions,
               "Then draw OneDiff's sixteen sizes and print how long each took; no files")
      ->group("Output");
  app.add_option("--compiler-config", a.compiler_config, "OneDiff's {\"mode\": \"WORD:WORD\"}")
      ->group("Output");
  app.add_option("--mode,-M", a.mode, "sd.cpp's mode; only img_gen")->group("Output");
  add_common(app, a.common);
}

void check_foreign(const GenerateArgs& a) {
  if (a.format != "png") {
    throw UsageError(
        fmt::format("not supported: --format {}: this version writes png only", a.format));
  }
  if (a.mode.empty() || a.mode == "img_gen" || a.mode == "txt2img" || a.mode == "img2img") return;
  if (a.mode == "convert") {
    throw UsageError("not supported: -M convert: use 'halftone quantize' (and --precision int8)");
  }
  if (a.mode == "metadata") {
    throw UsageError("not supported: -M metadata: use 'halftone inspect FILE'");
  }
  throw UsageError(fmt::format("not supported: -M {}: Halftone makes images only", a.mode));
}

// sd.cpp and WebUI load LoRAs by a tag in the prompt; drawing the tag as words would be a silent
// drop.
void refuse_tags(std::string_view text) {
  if (text.find("<lora:") == std::string_view::npos) return;
  throw UsageError(
      "not supported: <lora:...> in the prompt: take the tag out and give --lora PATH:WEIGHT");
}

void refuse_tags(const std::vector<std::string>& prompts, const GenerateOptions& options) {
  for (const std::string& prompt : prompts) refuse_tags(prompt);
  for (const auto& text : {options.prompt_2, options.negative_prompt, options.negative_prompt_2}) {
    refuse_tags(text.value_or(""));
  }
}

// OneDiff's list for SDXL. A size that was not drawn before builds its plans, which are cached.
void run_many_resolutions(Session& session, GenerateOptions options) {
  constexpr std::array kSizes = {960, 720, 896, 768};
  options.batch_count = 1;
  options.dump_latents.clear();
  options.output_type = OutputType::kImage;
  for (const int height : kSizes) {
    for (const int width : kSizes) {
      options.height = height;
      options.width = width;
      const GenerateReport report = session.generate(options, [](Image&&) {});
      fmt::print(stderr, "Resolution {}x{}: {:.2f} s, of that {:.2f} s for plans and weights\n",
                 height, width, report.total_ms / 1000, (report.build_ms + report.load_ms) / 1000);
    }
  }
}

// Writes the pictures of all prompts as they come, and after each the reports so far: of several
// prompts an array, which stdout gets when it is complete.
class Runner {
 public:
  Runner(const GenerateArgs& args, Session& session, OutputNames& names, size_t num_prompts)
      : args_(args), session_(session), names_(names), num_prompts_(num_prompts) {}

  void run(const GenerateOptions& options) {
    std::vector<std::string> files;
    const GenerateReport report = session_.generate(options, [&](Image&& image) {
      if (options.output_type == OutputType::kLatent) return;  // --dump-latents has them
      const std::string path = names_.next();
      write_png(image, path, !args_.no_metadata);
      if (!json_on_stdout(args_.common)) {
        fmt::print("{}\n", path);
        std::fflush(stdout);
      }
      files.push_back(path);
    });
    if (options.output_type == OutputType::kLatent) {
      files.push_back(options.dump_latents);
      if (!json_on_stdout(args_.common)) fmt::print("{}\n", options.dump_latents);
    }
    if (!args_.common.quiet) fmt::print(stderr, "{}", summary(report));
    is_right_ = is_right_ && std::ranges::all_of(report.checks, &NodeCheck::ok);
    documents_.push_back(to_json(report, files));
    write_reports();
  }

  // No node was found wrong by --reference-check.
  [[nodiscard]] bool is_right() const { return is_right_; }

 private:
  void write_reports() const {
    const std::string json =
        num_prompts_ == 1 ? documents_.front() : fmt::format("[{}]", fmt::join(documents_, ",\n"));
    const bool is_complete = documents_.size() == num_prompts_;
    if (!args_.common.json.empty() && (is_complete || !json_on_stdout(args_.common))) {
      write_json(args_.common, json);
    }
    if (args_.save_report.empty()) return;
    CommonOptions to_file = args_.common;
    to_file.json = args_.save_report;
    write_json(to_file, json);
  }

  const GenerateArgs& args_;
  Session& session_;
  OutputNames& names_;
  size_t num_prompts_;
  std::vector<std::string> documents_;
  bool is_right_ = true;
};

// Where latents go that are the output, checked as pictures' names are; runs of several prompts
// number it.
std::string latents_file(const GenerateArgs& a, size_t num_prompts) {
  OutputArgs output = a.output;
  if (output.output.empty()) output.output = "latents.safetensors";
  if (!a.dry_run) OutputNames(output, static_cast<int>(num_prompts), ".safetensors").check();
  return OutputNames(output, 1, ".safetensors").next();
}

// Returns false when --reference-check found a wrong node.
bool generate(const CLI::App& app, const GenerateArgs& a) {
  check_foreign(a);
  GenerateOptions options = generate_options(app, a.request);
  const std::vector<std::string> prompts = read_prompts(a.request);
  if (prompts.empty()) {
    throw UsageError("a prompt is needed: halftone generate \"a red apple\" (or -p, @FILE, -)");
  }
  const bool latent = options.output_type == OutputType::kLatent;
  const std::string& output = a.output.output;
  if (latent && !output.empty() && !options.dump_latents.empty() &&
      output != options.dump_latents) {
    throw UsageError("--output and --dump-latents both name the file of the latents; give one");
  }
  if (latent && options.dump_latents.empty())
    options.dump_latents = latents_file(a, prompts.size());
  const int per_prompt = options.batch_size * options.batch_count;
  OutputNames names(latent ? OutputArgs{} : a.output, per_prompt * static_cast<int>(prompts.size()),
                    ".png");
  if (!a.dry_run) {
    names.check();
    need_folder_of(options.dump_latents, "--dump-latents");
    need_folder_of(a.save_report, "--save-report");
    if (!json_on_stdout(a.common)) need_folder_of(a.common.json, "--json");
  }
  refuse_tags(prompts, options);

  const SessionOptions wanted = session_options(a.model, a.common);
  if (!a.compiler_config.empty()) check_compiler_config(a.compiler_config, wanted.logger);
  if (a.dry_run) {
    options.prompt = prompts.front();
    print_dry_run(wanted, options);
    return true;
  }
  calibrate_if_missing(wanted);
  Session session(wanted);
  for (int i = 0; i < a.warmup_runs; ++i) {
    options.prompt = prompts.front();
    GenerateOptions warmup = options;
    warmup.dump_latents.clear();
    warmup.batch_count = 1;
    session.generate(warmup, [](Image&&) {});
  }
  Runner runner(a, session, names, prompts.size());
  const std::string dump = options.dump_latents;
  for (size_t i = 0; i < prompts.size(); ++i) {
    options.prompt = prompts[i];
    // As pictures are: one run's latents do not replace the last one's.
    if (!dump.empty() && prompts.size() > 1) {
      options.dump_latents = numbered(dump, static_cast<int>(i) + 1);
    }
    runner.run(options);
    if (options.seed) *options.seed += static_cast<uint64_t>(per_prompt);
  }
  if (a.many_resolutions) {
    options.prompt = prompts.front();
    run_many_resolutions(session, options);
  }
  return runner.is_right();
}

}  // namespace

int run_generate(Args args) {
  GenerateArgs a;
  CLI::App app("Makes images from prompts.", "halftone generate");
  add_options(app, a);
  bool is_right = true;
  const int exit = run_verb({"generate", app, args, request_spelling()}, a.common,
                            [&] { is_right = generate(app, a); });
  return exit == 0 && !is_right ? kExitQualityGate : exit;
}

}  // namespace halftone::cli
