// halftone compare: the same prompts and seeds in two ways, measured against each other.
#include "halftone/compare.h"

#include <fmt/format.h>

#include "request_options.h"
#include "verbs.h"

namespace halftone::cli {
namespace {

struct CompareArgs {
  CommonOptions common;
  ModelArgs model;
  RequestArgs request;
  std::string a = "fp32", b, output = "compare-report";
  double min_psnr = 0, min_ssim = 0;
  int max_pictures = 0;
  std::string clip_model;
  std::vector<std::string> lpips;
};

constexpr std::string_view kSides =
    "a precision, a recipe (.json), a plan file, or a folder of plans, of a model or of PNG "
    "pictures in the order of the prompts";

void add_options(CLI::App& app, CompareArgs& a) {
  add_model_options(app, a.model);
  add_request_options(app, a.request);
  constexpr const char* kGroup = "Comparison";
  app.add_option("--a,--baseline", a.a, fmt::format("Reference: {} (default fp32)", kSides))
      ->group(kGroup);
  app.add_option("--b", a.b, "What is held against it, as --a")->group(kGroup);
  app.add_option("--output,-o", a.output,
                 "Folder for report.html and the pictures (default compare-report)")
      ->group(kGroup);
  app.add_option("--min-psnr", a.min_psnr, "Exit code 7 when the mean PSNR is below, dB")
      ->group(kGroup);
  app.add_option("--min-ssim", a.min_ssim, "Exit code 7 when the mean SSIM is below")
      ->group(kGroup);
  app.add_option("--max-pictures", a.max_pictures,
                 "Prompts shown with pictures, worst first; 0 = as many as stay readable")
      ->check(CLI::Range(0, 100000))
      ->group(kGroup);
  app.add_option("--clip-model", a.clip_model,
                 "Folder of a Hugging Face CLIPModel (config.json, model.safetensors, tokenizer): "
                 "CLIP score of each picture")
      ->group(kGroup);
  app.add_option("--lpips", a.lpips,
                 "LPIPS: file or folder of torchvision's AlexNet or VGG16 and of lpips' linear "
                 "layers (.pth, .safetensors); may be given twice")
      ->allow_extra_args(false)
      ->group(kGroup);
  add_common(app, a.common);
}

std::string row(std::string_view name, const Summary& s, int digits) {
  return fmt::format("| {:<12} | {:>9.{}f} | {:>9.{}f} | {:>9.{}f} | {:>9.{}f} |\n", name, s.mean,
                     digits, s.median, digits, s.p10, digits, s.min, digits);
}

std::string table(const CompareReport& report) {
  std::string text = fmt::format(
      "{} against {}, {} prompts\n| {:<12} | {:>9} | {:>9} | {:>9} | {:>9} |\n", report.b.label,
      report.a.label, report.prompts.size(), "", "mean", "median", "p10", "worst");
  text += "|--------------|-----------|-----------|-----------|-----------|\n";
  text += row("PSNR, dB", report.psnr, 2);
  if (report.ssim) text += row("SSIM", *report.ssim, 4);
  if (report.ms_ssim) text += row("MS-SSIM", *report.ms_ssim, 4);
  if (report.latent_sqnr) text += row("latent, dB", *report.latent_sqnr, 2);
  if (const auto& clip = report.clip_score) {
    text += row("CLIP, A", clip->a, 2);
    text += row("CLIP, B", clip->b, 2);
    text += row("CLIP, B - A", clip->difference, 2);
  }
  if (const auto& lpips = report.lpips) {  // the largest is the worst
    text += fmt::format("| {:<12} | {:>9.4f} | {:>9.4f} | {:>9} | {:>9.4f} |\n", "LPIPS",
                        lpips->mean, lpips->median, "", lpips->max);
  }
  text += "\nworst:\n";
  for (const int index : report.worst) {
    const PromptComparison& p = report.prompts[static_cast<size_t>(index)];
    const std::string lpips = p.lpips ? fmt::format("  LPIPS {:.4f}", *p.lpips) : std::string();
    text += fmt::format("  {:>3} {:>7.2f} dB{}  {}\n", p.index, p.psnr, lpips, p.prompt);
  }
  if (report.a.pipeline_ms > 0 && report.b.pipeline_ms > 0) {
    text +=
        fmt::format("\nimage: {:.2f} ms and {:.2f} ms", report.a.pipeline_ms, report.b.pipeline_ms);
    if (!report.a.is_simulated && !report.b.is_simulated) {
      text += fmt::format(" ({:.2f}x)", report.a.pipeline_ms / report.b.pipeline_ms);
    }
    text += "\n";
  }
  return text;
}

// Returns whether every gate was met.
bool compare(const CLI::App& app, const CompareArgs& a) {
  if (a.b.empty()) throw UsageError(fmt::format("--b is needed: {}", kSides));
  CompareOptions options;
  options.session = session_options(a.model, a.common);
  options.generate = generate_options(app, a.request);
  options.prompts = read_prompts(a.request);
  options.a = a.a;
  options.b = a.b;
  options.output = a.output;
  options.max_pictures = a.max_pictures;
  options.clip_model = a.clip_model;
  options.lpips = a.lpips;
  if (app.count("--min-psnr") > 0) options.min_psnr = a.min_psnr;
  if (app.count("--min-ssim") > 0) options.min_ssim = a.min_ssim;
  const CompareReport report = halftone::compare(options);
  if (!a.common.json.empty()) write_json(a.common, to_json(report));
  if (!json_on_stdout(a.common)) fmt::print("{}\n{}\n", table(report), report.report);
  if (!report.passed && !a.common.quiet) {
    fmt::print(stderr, "missed: mean PSNR {:.2f} dB{}\n", report.psnr.mean,
               report.ssim ? fmt::format(", mean SSIM {:.4f}", report.ssim->mean) : "");
  }
  return report.passed;
}

}  // namespace

int run_compare(Args args) {
  CompareArgs a;
  CLI::App app("Draws the same prompts in two ways and reports how far they are apart.",
               "halftone compare");
  add_options(app, a);
  bool passed = true;
  const int exit = run_verb({"compare", app, args, request_spelling()}, a.common,
                            [&] { passed = compare(app, a); });
  return exit == 0 && !passed ? kExitQualityGate : exit;
}

}  // namespace halftone::cli
