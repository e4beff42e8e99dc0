#include "workflow/compare/compare.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "halftone/error.h"

#include "base/file.h"
#include "base/folder.h"
#include "io/image.h"
#include "metrics/image_metrics.h"
#include "metrics/summary.h"
#include "pipeline/clock.h"
#include "workflow/calibrate.h"
#include "workflow/compare/latent_traces.h"
#include "workflow/compare/page.h"
#include "workflow/compare/scores.h"
#include "workflow/compare/side.h"
#include "workflow/layer_sqnr.h"
#include "workflow/quantization.h"

namespace halftone::workflow {
namespace {

namespace fs = std::filesystem;

constexpr size_t kNumWorst = 10;
// Infinite ratios (equal latents) count as this in means.
constexpr double kIdenticalSqnr = 200.0;

metrics::RgbView view(const io::RgbImage& image) {
  return {.width = image.width, .height = image.height, .rgb = image.rgb};
}

Summary to_public(const metrics::Summary& s) {
  return {.mean = s.mean, .median = s.median, .p10 = s.p10, .min = s.min, .max = s.max};
}

// Over the prompts that have the figure; nullopt when none has.
template <class Get>
std::optional<Summary> summarize(const std::vector<PromptComparison>& prompts, Get&& get) {
  std::vector<double> values;
  for (const PromptComparison& prompt : prompts) {
    if (const std::optional<double> value = get(prompt)) values.push_back(*value);
  }
  if (values.empty()) return std::nullopt;
  return to_public(metrics::summarize(std::move(values)));
}

PromptComparison compare_pictures(const fs::path& a, const fs::path& b, const std::string& prompt,
                                  Scores& scores) {
  const io::RgbImage x = io::read_png(a).image, y = io::read_png(b).image;
  if (x.width != y.width || x.height != y.height) {
    throw Error(Errc::kInvalidArgument,
                fmt::format("{}: is {}x{}, but {} is {}x{}; give --size, or pictures of one size",
                            b.string(), y.width, y.height, a.string(), x.width, x.height));
  }
  PromptComparison result;
  result.prompt = prompt;
  const double psnr = metrics::psnr(view(x), view(y));
  result.identical = std::isinf(psnr);
  result.psnr = std::min(psnr, kIdenticalPsnr);
  result.ssim = metrics::ssim(view(x), view(y));
  result.ms_ssim = metrics::ms_ssim(view(x), view(y));
  scores.add(view(x), view(y), result);
  result.image_a = a.string();
  result.image_b = b.string();
  return result;
}

void compare_prompts(const CompareOptions& options, const SideRun& a, const SideRun& b,
                     const LatentTraces& traces, Scores& scores, CompareReport& report) {
  const SideRun& drawn = a.side.has_run ? a : b;
  for (size_t i = 0; i < options.prompts.size(); ++i) {
    PromptComparison one =
        compare_pictures(a.pictures[i], b.pictures[i], options.prompts[i], scores);
    one.index = static_cast<int>(i);
    if (i < drawn.seeds.size()) one.seed = drawn.seeds[i];
    if (const auto error = traces.last(i)) {
      one.latent_sqnr = error->sqnr();
      one.latent_mse = error->mse();
    }
    report.prompts.push_back(std::move(one));
  }
}

void summarize_prompts(const LatentTraces& traces, CompareReport& report) {
  const auto& prompts = report.prompts;
  report.psnr = *summarize(prompts, [](const auto& p) { return std::optional(p.psnr); });
  report.ssim = summarize(prompts, [](const auto& p) { return p.ssim; });
  report.ms_ssim = summarize(prompts, [](const auto& p) { return p.ms_ssim; });
  report.latent_sqnr = summarize(prompts, [](const auto& p) {
    return p.latent_sqnr ? std::optional(std::min(*p.latent_sqnr, kIdenticalSqnr)) : std::nullopt;
  });
  if (prompts.front().clip_a) {
    report.clip_score = {.a = *summarize(prompts, [](const auto& p) { return p.clip_a; }),
                         .b = *summarize(prompts, [](const auto& p) { return p.clip_b; }),
                         .difference = *summarize(prompts, [](const auto& p) {
                           return std::optional(*p.clip_b - *p.clip_a);
                         })};
  }
  report.lpips = summarize(prompts, [](const auto& p) { return p.lpips; });
  for (int step = 0; step < traces.num_steps(); ++step) {
    std::vector<double> values = traces.sqnr_at(step);
    if (values.empty()) continue;
    for (double& value : values) value = std::min(value, kIdenticalSqnr);
    const metrics::Summary summary = metrics::summarize(std::move(values));
    report.step_sqnr.push_back(summary.median);
    report.step_sqnr_p10.push_back(summary.p10);
  }
  std::vector<int> order(prompts.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int x, int y) {
    return prompts[static_cast<size_t>(x)].psnr < prompts[static_cast<size_t>(y)].psnr;
  });
  order.resize(std::min(order.size(), kNumWorst));
  report.worst = std::move(order);
}

void merge_modules(const SideRun& a, const SideRun& b, CompareReport& report) {
  for (const ModuleTime& module : a.modules) {
    report.modules.push_back({.name = module.name, .runs = module.runs, .a_ms = module.ms});
  }
  for (const ModuleTime& module : b.modules) {
    const auto found =
        std::find_if(report.modules.begin(), report.modules.end(),
                     [&](const ModuleLatency& latency) { return latency.name == module.name; });
    if (found != report.modules.end()) {
      found->b_ms = module.ms;
    } else {
      report.modules.push_back({.name = module.name, .runs = module.runs, .b_ms = module.ms});
    }
  }
}

// Where what a comparison writes lies until all of it is there: in the folder that it is for, which
// keeps nothing of one that fails.
class Staging {
 public:
  explicit Staging(fs::path output)
      : output_(std::move(output)),
        folder_(output_ / fmt::format(".tmp-{}", getpid())),
        is_new_(!fs::exists(output_)) {
    make_folders(output_);  // for a message that names what the user gave
    make_folders(folder_);
  }
  ~Staging() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
    if (is_new_) fs::remove(output_, ignored);  // when it is empty
  }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  [[nodiscard]] const fs::path& folder() const { return folder_; }

  // Puts a file in its place and names that; another's stays where it is.
  [[nodiscard]] std::string publish(const std::string& file) const {
    const fs::path inside = fs::path(file).lexically_relative(folder_);
    if (inside.empty() || *inside.begin() == "..") return file;
    const fs::path target = output_ / inside;
    make_folders(target.parent_path());
    std::error_code failed;
    fs::rename(file, target, failed);
    if (!failed) return target.string();
    throw Error(Errc::kIo,
                fmt::format("{}: cannot write the file: {}", target.string(), failed.message()));
  }

 private:
  fs::path output_, folder_;
  bool is_new_;
};

void check(const CompareOptions& options) {
  if (options.prompts.empty()) {
    throw Error(Errc::kInvalidArgument, "compare: no prompt was given (--prompts-file FILE)");
  }
  if (options.a.empty() || options.b.empty()) {
    throw Error(Errc::kInvalidArgument, "compare: both sides are needed, --a and --b");
  }
  if (options.generate.batch_size != 1 || options.generate.batch_count != 1) {
    throw Error(Errc::kInvalidArgument,
                "compare: draws one picture a prompt; give batch size and count 1");
  }
  if (options.generate.output_type != OutputType::kImage) {
    throw Error(Errc::kInvalidArgument,
                "compare: compares pictures, got output type latent; leave --output-type out (the "
                "report holds the latents' SQNR too)");
  }
}

// Plain precisions are not handed the options of quantization, and a recipe says the most of them.
void warn_of_unread(const SideChoice& a, const SideChoice& b, const SessionOptions& session) {
  const auto reads = [](const SideChoice& side, const GivenOption& given) {
    const QuantizationOptions& own = side.session.quantization;
    if (side.kind == "images" || given_options(own).empty()) return false;
    return own.recipe.empty() || !given.chooses ||
           (given.decoder_reads && side.session.vae_precision == Precision::kI8);
  };
  const bool has_recipe =
      !a.session.quantization.recipe.empty() || !b.session.quantization.recipe.empty();
  warn_unread(
      session.quantization, has_recipe ? "the recipe says what is quantized" : "no side quantizes",
      session.logger, [&](const GivenOption& given) { return reads(a, given) || reads(b, given); });
}

}  // namespace

CompareReport compare(backend::Device& device, backend::Device& host,
                      const CompareOptions& options) {
  const pipeline::Stopwatch clock;
  check(options);
  Scores scores(host, options);
  const SideChoice side_a = choose_side(options.a, options);
  const SideChoice side_b = choose_side(options.b, options);
  warn_of_unread(side_a, side_b, options.session);
  // What is wrong with a side is not told after minutes of drawing the other, or of calibrating.
  for (const bool calibrates : {false, true}) {
    for (const SideChoice* side : {&side_a, &side_b}) {
      if (may_need_record(side->session) == calibrates) check_side(device, *side, options);
    }
  }
  const Staging staging(options.output);
  const fs::path& folder = staging.folder();
  LatentTraces traces(options.prompts.size());
  LatentSink keep, measure;
  if (side_a.pictures.empty() && side_b.pictures.empty()) {
    keep = [&](size_t prompt, int step, std::span<const float> latent) {
      traces.keep(prompt, step, latent);
    };
    measure = [&](size_t prompt, int step, std::span<const float> latent) {
      traces.measure(prompt, step, latent);
    };
  }
  const SideRun a = run_side(device, options.a, side_a, options, folder / "a", keep);
  const SideRun b = run_side(device, options.b, side_b, options, folder / "b", measure);

  CompareReport report;
  report.lpips_network = scores.lpips_network();
  report.request = a.side.has_run ? a.request : b.request;
  report.a = a.side;
  report.b = b.side;
  for (const SideChoice* side : {&side_b, &side_a}) {
    if (side->kind == "images" || !report.layers.empty()) continue;
    GenerateOptions first = options.generate;
    first.prompt = options.prompts.front();
    report.layers = layer_sqnr(device, side->session, first);
  }
  compare_prompts(options, a, b, traces, scores, report);
  summarize_prompts(traces, report);
  merge_modules(a, b, report);
  report.min_psnr = options.min_psnr;
  report.min_ssim = options.min_ssim;
  report.passed = (!options.min_psnr || report.psnr.mean >= *options.min_psnr) &&
                  (!options.min_ssim || (report.ssim && report.ssim->mean >= *options.min_ssim));
  report.total_ms = clock.ms();
  const std::string page = (folder / "report.html").string();
  write_file_atomically(page, comparison_page(report, options.max_pictures));
  for (PromptComparison& prompt : report.prompts) {
    prompt.image_a = staging.publish(prompt.image_a);
    prompt.image_b = staging.publish(prompt.image_b);
  }
  report.report = staging.publish(page);
  return report;
}

}  // namespace halftone::workflow
