#include "workflow/compare/side.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <map>

#include <fmt/format.h>

#include "halftone/error.h"

#include "base/file.h"
#include "base/folder.h"
#include "io/image.h"
#include "metrics/summary.h"
#include "quant/schemes/scheme.h"
#include "runtime/plan_file.h"
#include "workflow/calibrate.h"
#include "workflow/generator.h"

namespace halftone::workflow {
namespace {

namespace fs = std::filesystem;

constexpr std::array kPrecisions = {Precision::kAuto, Precision::kF32, Precision::kBF16,
                                    Precision::kF16,  Precision::kI8,  Precision::kF8};

double median(std::vector<double> values) {
  return values.empty() ? 0 : metrics::summarize(std::move(values)).median;
}

// Digits compare by value, other characters by code.
bool natural_less(const std::string& a, const std::string& b) {
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    if (!digit(a[i]) || !digit(b[j])) {
      if (a[i] != b[j]) return a[i] < b[j];
      ++i, ++j;
      continue;
    }
    const auto number = [&](const std::string& text, size_t& at) {
      while (at < text.size() && text[at] == '0') ++at;
      const size_t begin = at;
      while (at < text.size() && digit(text[at])) ++at;
      return std::string_view(text).substr(begin, at - begin);
    };
    const std::string_view x = number(a, i), y = number(b, j);
    if (x.size() != y.size()) return x.size() < y.size();
    if (x != y) return x < y;
  }
  if (a.size() - i != b.size() - j) return a.size() - i < b.size() - j;
  return a < b;
}

// Progress of one prompt as progress of the side: which picture is in flight.
ProgressCallback numbered(const ProgressCallback& progress, const int* picture) {
  if (!progress) return {};
  return [&progress, picture](const Progress& inner) {
    Progress shown = inner;
    shown.image = *picture;
    return progress(shown);
  };
}

class SideRunner {
 public:
  SideRunner(backend::Device& device, const SideChoice& choice, const CompareOptions& options,
             fs::path folder, const LatentSink& on_latent)
      : options_(options),
        folder_(std::move(folder)),
        on_latent_(on_latent),
        progress_(choice.session.progress),
        generator_(device, with_numbers(choice.session)) {}

  void run(SideRun& result) {
    make_folders(folder_);
    for (size_t i = 0; i < options_.prompts.size(); ++i) draw(i, result);
    for (const auto& [name, times] : modules_) {
      result.modules.push_back({name, runs_.at(name), median(times)});
    }
    result.side.pipeline_ms = median(totals_);
    result.side.steps_per_second = median(speeds_);
    result.side.has_run = true;
  }

 private:
  SessionOptions with_numbers(SessionOptions session) {
    session.progress = numbered(progress_, &picture_);
    return session;
  }

  void draw(size_t index, SideRun& result) {
    picture_ = static_cast<int>(index);
    GenerateOptions request = options_.generate;
    request.prompt = options_.prompts[index];
    request.seed = request.seed.value_or(0) + index;
    const auto on_step = [&](int row, const runtime::Executor& denoiser) {
      if (!on_latent_) return;
      // The state is the sample followed by the history of multi-step rules.
      const Tensor state = denoiser.output("state");
      const int64_t sample = state.shape().num_elements() / state.shape()[0];
      on_latent_(index, row, state.values<float>().first(static_cast<size_t>(sample)));
    };
    const auto on_image = [&](Image&& image) {
      const fs::path file = folder_ / fmt::format("{:03d}.png", index);
      const std::vector<io::TextChunk> text = {{"parameters", image.parameters},
                                               {"halftone", image.metadata}};
      io::write_png(file, {.width = image.width, .height = image.height, .rgb = image.rgb}, text);
      result.pictures.push_back(file);
      result.seeds.push_back(image.seed);
    };
    add(generator_.generate(request, on_image, on_step), index, result);
  }

  void add(const GenerateReport& report, size_t index, SideRun& result) {
    if (index == 0) {
      result.request = report.request;
      result.side.plans = report.plans;
      for (const ModuleTime& module : report.modules) modules_.emplace_back(module.name, Times{});
    }
    result.side.memory = report.memory;
    result.side.component_memory = report.component_memory;
    result.side.load_ms += report.load_ms;
    result.side.build_ms += report.build_ms;
    for (const std::string& warning : report.warnings) {
      result.side.warnings.push_back(fmt::format("prompt {}: {}", index, warning));
    }
    totals_.push_back(report.pipeline_ms);
    speeds_.push_back(report.steps_per_second);
    for (const ModuleTime& module : report.modules) {
      runs_[module.name] = module.runs;
      for (auto& [name, times] : modules_) {
        if (name == module.name) times.push_back(module.ms);
      }
    }
  }

  using Times = std::vector<double>;
  const CompareOptions& options_;
  fs::path folder_;
  const LatentSink& on_latent_;
  const ProgressCallback& progress_;
  int picture_ = 0;
  Generator generator_;
  std::vector<std::pair<std::string, Times>> modules_;
  std::map<std::string, int> runs_;
  Times totals_, speeds_;
};

}  // namespace

std::vector<fs::path> pictures_in(const fs::path& folder) {
  std::vector<std::string> names = list_folder(folder);
  std::erase_if(names, [](const std::string& name) {
    std::string extension = fs::path(name).extension().string();
    std::transform(extension.begin(), extension.end(), extension.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return extension != ".png";
  });
  std::sort(names.begin(), names.end(), natural_less);
  std::vector<fs::path> files;
  for (const std::string& name : names) files.push_back(folder / name);
  return files;
}

SideChoice choose_side(const std::string& spec, const CompareOptions& options) {
  SideChoice choice{.kind = "precision", .label = spec, .session = options.session, .pictures = {}};
  for (const Precision precision : kPrecisions) {
    if (spec != to_string(precision)) continue;
    choice.session.precision = precision;
    const bool is_plain = precision == Precision::kF32 || precision == Precision::kBF16 ||
                          precision == Precision::kF16;
    if (is_plain) choice.session.quantization = {};
    return choice;
  }
  for (const quant::Scheme* scheme : quant::schemes()) {
    if (spec != scheme->name) continue;
    choice.kind = "recipe";
    choice.session.quantization.scheme = spec;
    return choice;
  }
  const fs::path path = spec;
  choice.label =
      path.filename().empty() ? path.parent_path().filename().string() : path.filename().string();
  std::error_code ignored;
  if (fs::is_regular_file(path, ignored) && path.extension() == ".json") {
    choice.kind = "recipe";
    choice.session.quantization.recipe = spec;
    return choice;
  }
  if (fs::is_regular_file(path, ignored) && path.extension() == ".plan") {
    choice.kind = "plan";
    choice.session.plan = spec;
    return choice;
  }
  if (fs::is_directory(path, ignored)) {
    if (fs::exists(path / "model_index.json", ignored)) {
      choice.kind = "model";
      choice.session.model.model = spec;
      return choice;
    }
    if (!runtime::plans_in(path).empty()) {
      choice.kind = "plan";
      choice.session.plan = spec;
      return choice;
    }
    choice.kind = "images";
    choice.pictures = pictures_in(path);
    if (choice.pictures.size() == options.prompts.size()) return choice;
    throw Error(Errc::kInvalidArgument,
                fmt::format("{}: holds {} PNG pictures, wanted {}, one a prompt", spec,
                            choice.pictures.size(), options.prompts.size()));
  }
  std::string names;
  for (const Precision precision : kPrecisions) names += fmt::format("{}, ", to_string(precision));
  throw Error(Errc::kInvalidArgument,
              fmt::format("compare: got '{}', wanted {}a scheme, a recipe (.json), a "
                          "plan file, or a folder of plans, of a model or of PNG pictures",
                          spec, names));
}

void check_side(backend::Device& device, const SideChoice& choice, const CompareOptions& options) {
  if (choice.kind == "images") return;
  calibrate_if_missing(device, choice.session);
  SessionOptions silent = choice.session;
  silent.logger = {};
  GenerateOptions first = options.generate;
  first.prompt = options.prompts.front();
  static_cast<void>(Generator(device, silent).dry_run(first));
}

SideRun run_side(backend::Device& device, const std::string& spec, const SideChoice& choice,
                 const CompareOptions& options, const fs::path& folder,
                 const LatentSink& on_latent) {
  SideRun run;
  run.side.spec = spec;
  run.side.kind = choice.kind;
  run.side.label = choice.label;
  if (choice.kind == "images") {
    run.pictures = choice.pictures;
    return run;
  }
  SideRunner(device, choice, options, folder, on_latent).run(run);
  const bool is_fp8 = std::any_of(
      run.side.plans.begin(), run.side.plans.end(),
      [](const PlanUse& plan) { return plan.precision.find("fp8") != std::string::npos; });
  run.side.is_simulated =
      choice.session.quantization.simulate || (is_fp8 && !device.info().has("cuda"));
  return run;
}

}  // namespace halftone::workflow
