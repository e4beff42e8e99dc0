#include "workflow/auto_search.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>

#include <fmt/format.h>

#include "halftone/error.h"

#include "base/file.h"
#include "base/folder.h"
#include "metrics/image_metrics.h"
#include "metrics/signal.h"
#include "metrics/summary.h"
#include "quant/schemes/scheme.h"
#include "quant/taps.h"
#include "workflow/calibrate.h"
#include "workflow/generator.h"

namespace halftone::workflow {
namespace {

namespace fs = std::filesystem;

constexpr double kEqual = 100;       // dB that equal pictures and latents count as
constexpr int kMostDrawn = 8;        // mixes that are drawn for one budget
constexpr size_t kMostMeasured = 3;  // prompts that the layers are measured with
constexpr const char* kKeep = "keep";

// What a mix gives when it is drawn.
struct Drawn {
  std::vector<Image> images;
  std::vector<std::vector<float>> latents;
  double step_ms = 0;
};

// A recipe as the file that sessions take it from; removed at the end.
class RecipeFile {
 public:
  explicit RecipeFile(const quant::Recipe& recipe) {
    write_file_atomically(path(), quant::to_json(recipe));
  }
  [[nodiscard]] std::string path() const { return (folder_.path() / "recipe.json").string(); }

 private:
  TemporaryFolder folder_;
};

bool multiplies_fp8(const backend::DeviceInfo& device) {
  int architecture = 0;
  const std::string_view arch = device.arch;
  if (!arch.starts_with("sm_")) return false;
  std::from_chars(arch.data() + 3, arch.data() + arch.size(), architecture);
  return architecture >= 89;
}

int64_t multiplications(const graph::Graph& graph, const graph::Node& node) {
  for (const graph::Operand& operand : node.inputs) {
    if (operand.role != graph::Role::kWeight) continue;
    const Shape& weight = graph.type(operand.value).shape;
    return graph.type(node.outputs[0]).shape.num_elements() * (weight.num_elements() / weight[0]);
  }
  return 0;
}

class Search {
 public:
  Search(backend::Device& device, const SessionOptions& session, const QuantizeOptions& options)
      : device_(device),
        session_(session),
        options_(options),
        model_(open_model(session.model, session.cache_dir, session.logger)) {
    choose_prompts();
    float_precision_ = resolve_precision(Precision::kAuto, device.info());
    const Precision asked = session.precision;
    if (asked == Precision::kF32 || asked == Precision::kBF16 || asked == Precision::kF16) {
      float_precision_ = resolve_precision(asked, device.info());
    }
  }

  AutoSearch run() {
    make_formats();
    measure();
    reference_ = draw(plain(Precision::kF32));
    if (options_.budget.target_speedup) measure_times();
    for (const quant::Selection& selection : front_of(table_)) {
      choices_.push_back(selection.chosen);
      points_.push_back(point_of(table_, selection.chosen));
    }
    const Budget& budget = options_.budget;
    const size_t chosen = budget.max_bytes        ? fit_bytes(*budget.max_bytes)
                          : budget.target_speedup ? fit_time(*budget.target_speedup)
                                                  : fit_quality();
    points_[chosen].chosen = true;
    AutoSearch result{.recipe = recipe_of(table_, choices_[chosen], collect_), .points = points_};
    const bool by_time = budget.target_speedup.has_value();
    std::ranges::stable_sort(result.points, {}, [&](const FrontPoint& point) {
      return by_time ? point.step_ms : static_cast<double>(point.bytes);
    });
    return result;
  }

 private:
  void choose_prompts() {
    prompts_ = options_.prompts.empty() ? calibration_prompts(model_) : options_.prompts;
    if (prompts_.empty() && !options_.generate.prompt.empty()) {
      prompts_ = {options_.generate.prompt};
    }
    if (prompts_.empty()) {
      throw Error(Errc::kInvalidArgument,
                  "a budget is verified by drawing, and the model brings no calibration prompts: "
                  "give --prompts-file");
    }
    prompts_.resize(
        std::min(prompts_.size(), static_cast<size_t>(std::max(options_.num_prompts, 1))));
  }

  // Everything that the device executes; int8's options (policy, patterns, collect) hold for all.
  void make_formats() {
    QuantizationOptions base = session_.quantization;
    base.recipe.clear();
    base.level = base.level.value_or(3);
    const auto add = [&](const std::string& name, const std::string& scheme, int bits) {
      base.scheme = scheme;
      quant::Recipe recipe = *workflow::recipe_of(base, Precision::kAuto, model_);
      for (quant::Rule& rule : recipe.rules) {
        if (!rule.spec.weight || bits == 8) continue;
        // A convolution of 4 bits runs on no kernel.
        if (rule.kind == quant::LayerKind::kConv) {
          rule.spec = {};
        } else {
          rule.spec.weight->bits = bits;
        }
      }
      table_.formats.push_back(name);
      table_.recipes.push_back(recipe);
    };
    table_.formats.emplace_back(kKeep);
    table_.recipes.emplace_back();
    add("int8", "int8", 8);
    collect_ = table_.recipes.back().collect;
    add("w4a8", "int8", 4);
    add("w4a16", "int4_weightonly", 4);
    if (multiplies_fp8(device_.info())) add("fp8", "fp8", 8);
    needs_record_ = std::ranges::any_of(table_.recipes, &quant::Recipe::needs_record);
    if (!needs_record_) return;
    SessionOptions calibrated = session_;
    calibrated.quantization.scheme = "int8";
    calibrate_if_missing(device_, calibrated, options_.prompts, options_.generate);
  }

  void measure() {
    SensitivityOptions wanted;
    for (size_t f = 1; f < table_.formats.size(); ++f) {
      wanted.formats.push_back({table_.formats[f], table_.recipes[f]});
    }
    wanted.prompts.assign(
        prompts_.begin(),
        prompts_.begin() + static_cast<std::ptrdiff_t>(std::min(prompts_.size(), kMostMeasured)));
    SensitivityTable measured = measure_sensitivity(device_, session_, options_.generate, wanted);
    table_.layers = std::move(measured.layers);
    table_.kept_bits = float_precision_ == Precision::kF32 ? 32 : 16;
    for (const LayerSensitivity& layer : table_.layers) {
      std::vector<size_t> options = {0};
      for (size_t f = 1; f < table_.formats.size(); ++f) {
        if (layer.effects[f - 1]) options.push_back(f);
      }
      table_.options.push_back(std::move(options));
    }
    read_graph();
  }

  // Sizes of what no format changes, and multiplications of the layers.
  void read_graph() {
    PlanOptions plain;
    plain.precision = Precision::kF32;
    const int64_t extent = model_.facts.sample_size;
    const graph::Graph graph =
        PlanMaker(model_, device_, plain)
            .graph("unet", {{"batch", 1},
                            {"height", extent},
                            {"width", extent},
                            {"text_tokens", model_.tokenizers.front()->max_length()},
                            {"cfg", 1}});
    int64_t weights = 0;
    for (const graph::Value& value : graph.values()) {
      if (value.constant && !value.constant->weight.empty()) {
        weights += value.type.shape.num_elements();
      }
    }
    for (const LayerSensitivity& layer : table_.layers) weights -= layer.num_weights;
    table_.fixed_bytes =
        static_cast<uint64_t>(weights) * static_cast<uint64_t>(table_.kept_bits) / 8;
    for (const graph::Node& node : graph.nodes()) {
      if (quant::is_layer(graph, node)) macs_[node.name] = multiplications(graph, node);
    }
  }

  [[nodiscard]] SessionOptions plain(Precision precision) const {
    SessionOptions session = session_;
    session.precision = precision;
    session.quantization = {};
    session.plan.clear();
    return session;
  }
  [[nodiscard]] SessionOptions quantized(const RecipeFile& file) const {
    SessionOptions session = session_;
    session.precision = float_precision_;
    session.quantization.scheme.clear();
    session.quantization.recipe = file.path();
    session.plan.clear();
    return session;
  }

  Drawn draw(const SessionOptions& session) {
    Generator generator(device_, session);
    Drawn drawn;
    std::vector<double> times;
    for (size_t i = 0; i < prompts_.size(); ++i) {
      GenerateOptions request = options_.generate;
      request.prompt = prompts_[i];
      request.seed = request.seed.value_or(0) + i;
      request.batch_size = request.batch_count = 1;
      request.output_type = OutputType::kImage;
      request.dump_latents.clear();
      std::vector<float> latent;
      const auto report = generator.generate(
          request, [&](Image&& image) { drawn.images.push_back(std::move(image)); },
          [&](int, const runtime::Executor& denoiser) {
            const Tensor state = denoiser.output("state");
            const auto sample =
                static_cast<size_t>(state.shape().num_elements() / state.shape()[0]);
            const auto values = state.values<float>().first(sample);
            latent.assign(values.begin(), values.end());
          });
      drawn.latents.push_back(std::move(latent));
      if (report.steps_per_second > 0) times.push_back(1000.0 / report.steps_per_second);
    }
    // The first picture warms up.
    if (times.size() > 1) times.erase(times.begin());
    if (!times.empty()) drawn.step_ms = metrics::summarize(std::move(times)).median;
    return drawn;
  }

  // Draws a point's mix and notes what it gives.
  void verify(size_t index) {
    FrontPoint& point = points_[index];
    if (point.psnr) return;
    const RecipeFile file(recipe_of(table_, choices_[index], collect_));
    const Drawn drawn = draw(quantized(file));
    double psnr = 0, sqnr = 0;
    for (size_t i = 0; i < drawn.images.size(); ++i) {
      const Image &a = reference_.images[i], &b = drawn.images[i];
      psnr +=
          std::min(kEqual, metrics::psnr({a.width, a.height, a.rgb}, {b.width, b.height, b.rgb}));
      metrics::ErrorSum error;
      error.add(reference_.latents[i], drawn.latents[i]);
      sqnr += std::min(kEqual, error.sqnr());
    }
    const auto count = static_cast<double>(drawn.images.size());
    point.psnr = psnr / count;
    point.sqnr = sqnr / count;
    point.measured_step_ms = drawn.step_ms;
    ++num_drawn_;
    log(session_.logger, LogLevel::kInfo, "search",
        fmt::format("{:.2f} MiB, predicted noise {:.3g}: {:.2f} dB PSNR, {:.2f} dB SQNR, step "
                    "{:.2f} ms",
                    static_cast<double>(point.bytes) / (1024.0 * 1024.0), point.noise, *point.psnr,
                    *point.sqnr, drawn.step_ms));
  }

  size_t add(const std::vector<size_t>& chosen) {
    choices_.push_back(chosen);
    points_.push_back(point_of(table_, chosen));
    return points_.size() - 1;
  }

  size_t fit_bytes(uint64_t max_bytes) {
    const size_t chosen = add(within_bytes(table_, max_bytes));
    verify(chosen);
    return chosen;
  }

  // The cheapest point of the front whose pictures reach the budget. Quality grows along the front
  // but for the noise of a few prompts; the prediction, moved to the last measurement, says where
  // to look, and what was looked at halves the rest.
  size_t fit_quality() {
    const Budget& budget = options_.budget;
    const double wanted = budget.min_psnr ? *budget.min_psnr : *budget.min_sqnr;
    size_t low = 0, high = points_.size();  // points below `low` miss, those from `high` on reach
    double offset = 0;
    bool is_first = true;
    while (low < high && num_drawn_ < kMostDrawn) {
      size_t next = (low + high) / 2;
      if (!is_first) {
        while (next > low && predicted(next - 1) + offset >= wanted) --next;
        while (next + 1 < high && predicted(next) + offset < wanted) ++next;
      }
      verify(next);
      const double got = budget.min_psnr ? *points_[next].psnr : *points_[next].sqnr;
      if (points_[next].noise > 0) {
        offset = got - predicted(next);
        is_first = false;
      }
      if (got >= wanted) {
        high = next;
      } else {
        low = next + 1;
      }
    }
    if (high < points_.size()) return high;
    throw Error(Errc::kUnsupported,
                fmt::format("no mix that was drawn reaches {:.2f} dB; the best has {:.2f} dB",
                            wanted, best_quality()));
  }

  [[nodiscard]] double predicted(size_t index) const {
    const double noise = points_[index].noise;
    return noise > 0 ? -10 * std::log10(noise) : kEqual;
  }
  [[nodiscard]] double best_quality() const {
    double best = 0;
    for (const FrontPoint& point : points_) {
      const auto& value = options_.budget.min_psnr ? point.psnr : point.sqnr;
      if (value) best = std::max(best, *value);
    }
    return best;
  }

  // Time that each format saves, of all linears and of all convolutions at once, shared out by
  // multiplications.
  void measure_times() {
    table_.step_ms = draw(plain(float_precision_)).step_ms;
    table_.saved_ms.assign(table_.layers.size(), std::vector<double>(table_.formats.size(), 0.0));
    for (size_t f = 1; f < table_.formats.size(); ++f) {
      for (const auto kind : {quant::LayerKind::kLinear, quant::LayerKind::kConv}) {
        share_out(f, kind);
      }
    }
  }
  void share_out(size_t format, quant::LayerKind kind) {
    std::vector<size_t> chosen(table_.layers.size(), 0);
    double total = 0;
    for (size_t i = 0; i < chosen.size(); ++i) {
      if (table_.layers[i].kind != kind) continue;
      const auto at = std::ranges::find(table_.options[i], format);
      if (at == table_.options[i].end()) continue;
      chosen[i] = static_cast<size_t>(at - table_.options[i].begin());
      total += static_cast<double>(macs_[table_.layers[i].name]);
    }
    if (total <= 0) return;
    const RecipeFile file(recipe_of(table_, chosen, collect_));
    const double saved = table_.step_ms - draw(quantized(file)).step_ms;
    for (size_t i = 0; i < chosen.size(); ++i) {
      if (chosen[i] == 0) continue;
      table_.saved_ms[i][format] =
          saved * static_cast<double>(macs_[table_.layers[i].name]) / total;
    }
  }

  size_t fit_time(double speedup) {
    double target = table_.step_ms / speedup;
    size_t best = points_.size();
    while (num_drawn_ < kMostDrawn) {
      const size_t next = add(within_time(table_, target));
      verify(next);
      const double got = *points_[next].measured_step_ms;
      if (got * speedup <= table_.step_ms) return next;
      if (best == points_.size() || got < *points_[best].measured_step_ms) best = next;
      // What was missed is asked for in addition.
      target -= std::max(got - table_.step_ms / speedup, 0.005 * table_.step_ms);
    }
    throw Error(Errc::kUnsupported,
                fmt::format("--target-speedup {}: the best that was measured is {:.2f}x", speedup,
                            table_.step_ms / *points_[best].measured_step_ms));
  }

  backend::Device& device_;
  const SessionOptions& session_;
  const QuantizeOptions& options_;
  Model model_;
  Precision float_precision_ = Precision::kF32;
  std::vector<std::string> prompts_;
  bool needs_record_ = false;
  quant::Collect collect_;
  MixTable table_;
  std::map<std::string, int64_t> macs_;
  Drawn reference_;
  std::vector<std::vector<size_t>> choices_;  // of the points
  std::vector<FrontPoint> points_;
  int num_drawn_ = 0;
};

void check_budget(const Budget& budget) {
  const int given = static_cast<int>(budget.min_psnr.has_value()) +
                    static_cast<int>(budget.min_sqnr.has_value()) +
                    static_cast<int>(budget.max_bytes.has_value()) +
                    static_cast<int>(budget.target_speedup.has_value());
  if (given != 1) {
    throw Error(Errc::kInvalidArgument,
                "a search takes one of --min-psnr, --min-sqnr, --max-size and --target-speedup");
  }
  const auto positive = [](const std::optional<double>& value, const char* name) {
    if (!value || (*value > 0 && std::isfinite(*value))) return;
    throw Error(Errc::kInvalidArgument,
                fmt::format("{}: got {}, wanted a number above 0", name, *value));
  };
  positive(budget.min_psnr, "--min-psnr");
  positive(budget.min_sqnr, "--min-sqnr");
  positive(budget.target_speedup, "--target-speedup");
}

}  // namespace

AutoSearch search_budget(backend::Device& device, const SessionOptions& session,
                         const QuantizeOptions& options) {
  check_budget(options.budget);
  return Search(device, session, options).run();
}

}  // namespace halftone::workflow
