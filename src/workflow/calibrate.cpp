#include "workflow/calibrate.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>

#include <fmt/format.h>

#include "halftone/error.h"

#include "base/file.h"
#include "base/folder.h"
#include "base/hash.h"
#include "pipeline/clock.h"
#include "quant/observer.h"
#include "quant/record.h"
#include "quant/taps.h"
#include "workflow/calibration_dump.h"
#include "workflow/mixdq_dump.h"
#include "workflow/model.h"
#include "workflow/plans.h"
#include "workflow/report_json.h"
#include "workflow/request.h"

namespace halftone::workflow {
namespace {

namespace fs = std::filesystem;

constexpr int kDefaultSteps = 20;
constexpr const char* kPromptFile = "prompts/calibration.txt";

std::vector<std::string> lines_of(const fs::path& file) {
  const std::string text = read_text_file(file);
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string line = text.substr(begin, end - begin);
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.find_first_not_of(" \t") != std::string::npos) lines.push_back(std::move(line));
    begin = end + 1;
  }
  return lines;
}

// What a tap's output is, and so how two prompts' values become those of one call with both.
enum class Statistic { kMin, kMax, kHistogram };

struct TapOutput {
  std::string name;
  Statistic statistic;
  graph::Rate rate;
};

std::vector<TapOutput> outputs_of(const std::vector<quant::Tap>& taps) {
  std::vector<TapOutput> outputs;
  for (const quant::Tap& tap : taps) {
    outputs.push_back({quant::output_name(tap.value, "min"), Statistic::kMin, tap.rate});
    outputs.push_back({quant::output_name(tap.value, "max"), Statistic::kMax, tap.rate});
    outputs.push_back({quant::output_name(tap.value, "columns"), Statistic::kMax, tap.rate});
    if (tap.histogram) {
      outputs.push_back(
          {quant::output_name(tap.value, "histogram"), Statistic::kHistogram, tap.rate});
    }
  }
  return outputs;
}

template <class T, class F>
void combine(Tensor& into, const Tensor& from, F&& f) {
  auto a = into.values<T>();
  const auto b = from.values<T>();
  for (size_t i = 0; i < a.size(); ++i) a[i] = f(a[i], b[i]);
}

void merge(Tensor& into, const Tensor& from, Statistic statistic) {
  switch (statistic) {
    case Statistic::kMin:
      combine<float>(into, from, [](float x, float y) { return std::min(x, y); });
      break;
    case Statistic::kMax:
      combine<float>(into, from, [](float x, float y) { return std::max(x, y); });
      break;
    case Statistic::kHistogram:
      combine<int32_t>(into, from, [](int32_t x, int32_t y) { return x + y; });
      break;
  }
}

constexpr std::string_view kDenoiser = "unet";
constexpr std::string_view kDecoder = "vae_decoder";

// Statistics of the prompts of one batch: by step, by output.
class BatchStatistics {
 public:
  BatchStatistics(const std::vector<TapOutput>& outputs, int num_steps)
      : outputs_(outputs), steps_(static_cast<size_t>(num_steps)) {}

  void add(int step, const runtime::Executor& tapped) {
    auto& values = steps_[static_cast<size_t>(step)];
    for (const TapOutput& output : outputs_) {
      // Values of the prompt are the same at every step.
      if (output.rate == graph::Rate::kPrompt && step > 0) continue;
      Tensor value = tapped.output(output.name);
      const auto [entry, is_new] = values.try_emplace(output.name);
      if (is_new) {
        entry->second = std::move(value);
      } else {
        merge(entry->second, value, output.statistic);
      }
    }
  }

  void give_to(quant::Recorder& recorder) {
    for (size_t step = 0; step < steps_.size(); ++step) {
      recorder.observe([&](const std::string& output) { return steps_[step].at(output).clone(); },
                       static_cast<int>(step));
      steps_[step].clear();
    }
  }

 private:
  const std::vector<TapOutput>& outputs_;
  std::vector<std::map<std::string, Tensor>> steps_;
};

std::string prompts_hash(const std::vector<std::string>& prompts) {
  Sha256 hash;
  for (const std::string& prompt : prompts) hash.update_field(prompt);
  return to_hex(hash.finish());
}

// Of one component, kDenoiser or kDecoder. The decoder's record has one step.
class Calibrator {
 public:
  Calibrator(backend::Device& device, const CalibrateOptions& options, std::string_view component)
      : options_(options),
        component_(component),
        session_(options.session),
        generate_(options.generate),
        device_(device),
        model_(open_model(session_.model, session_.cache_dir, session_.logger)),
        plans_(model_, device, plan_options(true)),
        pipeline_({.device = &device,
                   .plans =
                       [this](const pipeline::WantedPlan& wanted) {
                         return plans_.get(wanted.component, wanted.shape);
                       },
                   .facts = model_.facts,
                   .tokenizers = model_.tokenizers,
                   .logger = session_.logger}) {}

  CalibrateReport run() {
    const pipeline::Stopwatch clock;
    if (options_.from_dump.empty()) {
      choose_prompts();
      choose_request();
    } else {
      open_dump();
    }
    choose_file();
    insert_taps();
    open_record();
    check_dump_folder();
    CalibrateReport report{
        .request = prepared_.resolved, .record = file_.string(), .decoder_record = {}, .hash = {}};
    report.resumed_samples = record_.samples;
    quant::Recorder recorder(record_, taps_, num_recorded());
    while (record_.samples < size_) add_batch(recorder);
    report.hash = record_.hash();
    report.samples = record_.samples;
    report.num_values = static_cast<int64_t>(record_.values.size());
    report.num_layers = static_cast<int64_t>(record_.layers.size());
    report.total_ms = clock.ms();
    return report;
  }

 private:
  [[nodiscard]] PlanOptions plan_options(bool taps) const {
    PlanOptions plan;
    plan.precision = session_.precision;
    plan.vae_precision = session_.vae_precision;
    if (is_quantized(plan.vae_precision)) plan.vae_precision = Precision::kAuto;
    // A quantized precision asks for its record: the values are those of the full precision.
    if (is_quantized(plan.precision)) plan.precision = Precision::kAuto;
    plan.precision = resolve_precision(plan.precision, device_.info());
    plan.cache_dir = session_.cache_dir;
    plan.taps = taps && component_ == kDenoiser;
    plan.decoder_taps = taps && component_ == kDecoder;
    plan.shows_inputs = plan.taps && !options_.dump.empty();
    plan.logger = session_.logger;
    return plan;
  }

  // Steps of the record.
  [[nodiscard]] int num_recorded() const { return component_ == kDenoiser ? num_steps_ : 1; }

  void check_counts() const {
    if (options_.batch_size >= 1 && size_ >= 1) return;
    throw Error(Errc::kInvalidArgument,
                fmt::format("calibrate: got size {} and batch {}, wanted at least 1", size_,
                            options_.batch_size));
  }

  void choose_prompts() {
    prompts_ = options_.prompts;
    if (prompts_.empty()) prompts_ = calibration_prompts(model_);
    size_ = options_.calib_size;
    check_counts();
    if (static_cast<size_t>(size_) <= prompts_.size()) return;
    throw Error(Errc::kInvalidArgument,
                fmt::format("calibrate: got {} prompts, wanted {} (--calib-size); give a file with "
                            "one prompt a line (--prompts-file)",
                            prompts_.size(), size_));
  }

  // The dump's run decides all but the batch.
  void open_dump() {
    if (component_ != kDenoiser || !options_.dump.empty()) {
      throw Error(Errc::kInvalidArgument,
                  "calibrate: --from-dump holds what the denoiser was given; it serves neither "
                  "--vae-precision int8 nor --dump");
    }
    std::error_code ignored;
    const bool is_file = fs::is_regular_file(options_.from_dump, ignored);
    dump_.emplace(is_file ? import_mixdq() : fs::path(options_.from_dump));
    size_ = options_.calib_size > 0 ? std::min(options_.calib_size, dump_->size()) : dump_->size();
    check_counts();
    if (options_.calib_size > dump_->size()) {
      throw Error(Errc::kInvalidArgument,
                  fmt::format("{}: holds {} prompts, wanted {} (--calib-size)", options_.from_dump,
                              dump_->size(), options_.calib_size));
    }
    num_steps_ = dump_->facts().num_steps;
    key_ = dump_->facts().key;
    ResolvedRequest& r = prepared_.resolved;
    r.steps = num_steps_;
    fill_names(r);
    const auto must_be = [&](std::string_view name, const std::string& ours) {
      const std::string& made = entry(name);
      if (made == ours) return;
      throw Error(Errc::kInvalidArgument, fmt::format("{}: was made with {} '{}', asked for '{}'",
                                                      options_.from_dump, name, made, ours));
    };
    must_be("model", model_.checkpoint->content_hash());
    must_be("loras", model_.lora_identity());
    must_be("precision", r.precision);
    entry("batch") = fmt::format("{}", options_.batch_size);
    r.negative_prompt = entry("negative_prompt");
    const pipeline::ShapeKey& shape = dump_->facts().shape;
    const auto extent = [&](const char* name) {
      const auto found = shape.find(name);
      return found == shape.end() ? 0 : static_cast<int>(found->second);
    };
    const auto factor = static_cast<int>(model_.facts.vae_scale_factor);
    r.width = extent("width") * factor;
    r.height = extent("height") * factor;
    pipeline::check_size(r.width, r.height, factor);
    r.cfg = extent("cfg") != 0;
  }

  // MixDQ's file as a dump in a folder of our own, which goes when this does. The file names
  // neither model nor seed: what the record says of them is what it was asked for.
  fs::path import_mixdq() {
    const MixdqDump file(options_.from_dump);
    if (options_.calib_size > static_cast<int64_t>(file.prompts().size())) {
      throw Error(Errc::kInvalidArgument,
                  fmt::format("{}: holds {} prompts, wanted {} (--calib-size)", options_.from_dump,
                              file.prompts().size(), options_.calib_size));
    }
    const int count =
        options_.calib_size > 0 ? options_.calib_size : static_cast<int>(file.prompts().size());
    ResolvedRequest& r = prepared_.resolved;
    const auto factor = static_cast<int>(model_.facts.vae_scale_factor);
    r.width = static_cast<int>(file.width()) * factor;
    r.height = static_cast<int>(file.height()) * factor;
    pipeline::check_size(r.width, r.height, factor);
    r.steps = file.num_steps();
    r.scheduler = "of a MixDQ file";
    prompts_ = file.prompts();
    fill_names(r);
    pipeline::ShapeKey shape;
    for (const auto& wanted : pipeline_.wanted(r.width, r.height, 1, false, false, false)) {
      if (wanted.component == component_) shape = wanted.shape;
    }
    const graph::Graph graph =
        PlanMaker(model_, device_, plan_options(false)).graph(std::string(component_), shape);
    imported_.emplace();
    file.write(imported_->path(), count,
               DumpFacts{.key = key(), .shape = shape, .num_steps = r.steps}, graph);
    return imported_->path();
  }

  // Of key_.
  std::string& entry(std::string_view name) {
    for (auto& [known, value] : key_) {
      if (known == name) return value;
    }
    throw Error(Errc::kCorruptFile, fmt::format("{}: its key lacks '{}'",
                                                dump_file(options_.from_dump, 0).string(), name));
  }

  void fill_names(ResolvedRequest& r) const {
    r.device = device_.info().name;
    r.precision = std::string(to_string(plans_.precision_of("unet")));
    r.vae_precision = std::string(to_string(plans_.precision_of("vae_decoder")));
  }

  void choose_request() {
    if (!generate_.negative_prompt) generate_.negative_prompt = kCalibrationNegativePrompt;
    if (!generate_.seed) generate_.seed = 0;
    generate_.batch_size = generate_.batch_count = 1;
    generate_.output_type = component_ == kDecoder ? OutputType::kImage : OutputType::kLatent;
    if (generate_.steps == 0 && generate_.timesteps.empty() && generate_.sigmas.empty()) {
      const int own = prepare_request(model_, generate_).resolved.steps;
      generate_.steps = std::min(own, kDefaultSteps);
    }
    prepared_ = prepare_request(model_, generate_);
    fill_names(prepared_.resolved);
    num_steps_ = static_cast<int>(prepared_.schedule.rows.size());
    key_ = key();
  }

  void choose_file() {
    file_ = options_.record.empty() ? default_record(model_, session_.cache_dir)
                                    : fs::path(options_.record);
    if (component_ == kDecoder) file_ = decoder_record(file_);
    if (file_.empty()) {
      throw Error(Errc::kInvalidArgument,
                  "calibrate: there is no cache to keep the record in; name a file (--ranges)");
    }
    make_folders(file_.parent_path());
  }

  void insert_taps() {
    const ResolvedRequest& r = prepared_.resolved;
    for (const auto& wanted : pipeline_.wanted(r.width, r.height, 1, r.cfg, true, false)) {
      if (wanted.component != component_) continue;
      shape_ = wanted.shape;
      graph_ = PlanMaker(model_, device_, plan_options(false)).graph(wanted.component, shape_);
      graph::Graph tapped = graph_;
      taps_ = quant::insert_taps(tapped);
    }
    if (dump_ && dump_->facts().shape != shape_) {
      throw Error(
          Errc::kCorruptFile,
          fmt::format("{}: is of a denoiser of {}, this model's is of {}",
                      dump_file(options_.from_dump, 0).string(),
                      pipeline::to_string(dump_->facts().shape), pipeline::to_string(shape_)));
    }
    outputs_ = outputs_of(taps_);
  }

  // What the statistics depend on; quant::readable_name reads "batch".
  [[nodiscard]] std::vector<std::pair<std::string, std::string>> key() const {
    const ResolvedRequest& r = prepared_.resolved;
    return {{"model", model_.checkpoint->content_hash()},
            {"loras", model_.lora_identity()},
            {"precision", component_ == kDecoder ? r.vae_precision : r.precision},
            {"prompts", prompts_hash(prompts_)},
            {"steps", fmt::format("{}", r.steps)},
            {"batch", fmt::format("{}", options_.batch_size)},
            {"negative_prompt", r.negative_prompt},
            {"guidance", fmt::format("{}", r.guidance)},
            {"seed", fmt::format("{}", r.seed)},
            {"rng", r.rng},
            {"scheduler", r.scheduler + " " + r.sigma_schedule},
            {"size", fmt::format("{}x{}", r.width, r.height)}};
  }

  void open_record() {
    std::error_code ignored;
    if (fs::exists(file_, ignored) && !options_.restart) {
      record_ = quant::load_record(file_);
      for (const auto& [name, value] : key_) {
        if (record_.entry(name) == value) continue;
        throw Error(Errc::kInvalidArgument,
                    fmt::format("{}: was made with {} '{}', asked for '{}'; give --restart to make "
                                "it anew, or another file (--ranges)",
                                file_.string(), name, record_.entry(name), value));
      }
      return;
    }
    record_.key = key_;
    record_.num_steps = num_recorded();
  }

  // A record that goes on needs the dump of the prompts that it holds.
  void check_dump_folder() const {
    if (options_.dump.empty() || component_ != kDenoiser) return;
    make_folders(options_.dump);
    for (int64_t i = 0; i < record_.samples; ++i) {
      std::error_code ignored;
      if (fs::exists(dump_file(options_.dump, i), ignored)) continue;
      throw Error(Errc::kInvalidArgument,
                  fmt::format("{}: is missing, and the record {} holds its prompt already; give "
                              "--restart to draw it again",
                              dump_file(options_.dump, i).string(), file_.string()));
    }
  }

  void add_batch(quant::Recorder& recorder) {
    const auto first = static_cast<int>(record_.samples);
    // Batches begin at multiples of their size, also when a record is extended.
    const int end = std::min(size_, (first / options_.batch_size + 1) * options_.batch_size);
    BatchStatistics statistics(outputs_, num_recorded());
    for (int i = first; i < end; ++i) dump_ ? replay(i, statistics) : draw(i, statistics);
    statistics.give_to(recorder);
    record_.samples = end;
    quant::save(record_, file_);
  }

  void draw(int index, BatchStatistics& statistics) {
    generate_.prompt = prompts_[static_cast<size_t>(index)];
    const PreparedRequest prepared = prepare_request(model_, generate_);
    Tensor latents;
    const uint64_t seed = *generate_.seed + static_cast<uint64_t>(index);
    pipeline::Request request = batch_request(prepared, generate_, seed, 0, latents);
    std::optional<DumpWriter> writer;
    if (component_ == kDecoder) {
      request.on_decode = [&](const runtime::Executor& decoder) { statistics.add(0, decoder); };
    } else {
      if (!options_.dump.empty()) {
        writer.emplace(options_.dump, index, generate_.prompt,
                       DumpFacts{.key = key_, .shape = shape_, .num_steps = num_steps_}, graph_);
      }
      request.on_step = [&](int row, const runtime::Executor& denoiser) {
        statistics.add(row, denoiser);
        const float timestep = request.schedule.rows[static_cast<size_t>(row)].timestep;
        if (writer) writer->add(row, timestep, denoiser);
      };
    }
    request.progress = [&](const Progress& inner) { return show(index, inner); };
    static_cast<void>(pipeline_.generate(request));
    model_.checkpoint->check_unchanged();
    if (writer) writer->commit();
  }

  void replay(int index, BatchStatistics& statistics) {
    const DumpedPrompt prompt = dump_->open(index);
    if (!denoiser_) {
      const pipeline::PlanSource source = plans_.get(std::string(component_), shape_);
      denoiser_ = std::make_unique<runtime::Executor>(
          source.plan, *pipeline::find_profile(*source.plan, shape_), device_, model_.weights());
    }
    prompt.begin(*denoiser_);
    for (int step = 0; step < num_steps_; ++step) {
      prompt.run_step(*denoiser_, step);
      statistics.add(step, *denoiser_);
      if (show(index, {.stage = "denoise", .done = step + 1, .total = num_steps_})) continue;
      throw Error(Errc::kCancelled, "cancelled (calibrate)");
    }
  }

  // Steps of all prompts as one stage.
  [[nodiscard]] bool show(int index, const Progress& inner) const {
    if (!session_.progress) return true;
    if (inner.stage == "load" || inner.stage == "build") return session_.progress(inner);
    const int step = inner.stage == "denoise" ? inner.done : 0;
    return session_.progress(
        {.stage = "calibrate", .done = index * num_steps_ + step, .total = size_ * num_steps_});
  }

  const CalibrateOptions& options_;
  std::string_view component_;
  const SessionOptions& session_;
  GenerateOptions generate_;
  backend::Device& device_;
  Model model_;
  PlanMaker plans_;
  pipeline::Pipeline pipeline_;
  std::vector<std::string> prompts_;
  std::optional<TemporaryFolder> imported_;
  std::optional<CalibrationDump> dump_;          // that is read
  std::unique_ptr<runtime::Executor> denoiser_;  // that runs on it
  int size_ = 0;                                 // prompts of the finished record
  int num_steps_ = 0;                            // of a prompt
  std::vector<std::pair<std::string, std::string>> key_;
  pipeline::ShapeKey shape_;
  graph::Graph graph_;  // of the component, without taps
  PreparedRequest prepared_;
  fs::path file_;
  std::vector<quant::Tap> taps_;
  std::vector<TapOutput> outputs_;
  quant::CalibrationRecord record_;
};

}  // namespace

std::vector<std::string> calibration_prompts(const Model& model) {
  const fs::path file = model.checkpoint->path() / kPromptFile;
  std::error_code ignored;
  if (!fs::is_regular_file(file, ignored)) return {};
  return lines_of(file);
}

CalibrateReport calibrate(backend::Device& device, const CalibrateOptions& options) {
  warn_unread(options.session.quantization,
              "a record serves every recipe; give it to what quantizes", options.session.logger,
              [](const GivenOption& given) {
                return given.flag == "--ranges" || given.flag == "--calib-size";
              });
  CalibrateReport report = Calibrator(device, options, kDenoiser).run();
  if (is_quantized(options.session.vae_precision)) {
    report.decoder_record = Calibrator(device, options, kDecoder).run().record;
  }
  return report;
}

bool may_need_record(const SessionOptions& session) {
  const QuantizationOptions& quantization = session.quantization;
  const bool quantizes = is_quantized(session.precision) || !quantization.scheme.empty() ||
                         !quantization.recipe.empty() || is_quantized(session.vae_precision);
  // The recipe of a model's folder, whose record is that of the model without LoRAs.
  const bool may_quantize = session.precision == Precision::kAuto && !session.model.loras.empty();
  return (quantizes || may_quantize) && quantization.ranges.empty() && session.plan.empty();
}

namespace {

bool is_missing(const fs::path& record, int samples) {
  std::error_code ignored;
  return !fs::exists(record, ignored) ||
         (samples > 0 && quant::load_record(record).samples < samples);
}

// Makes or extends the record that belongs to `file`, the denoiser's, without being asked for one.
// Under way it has a name of its own: what was cut off is never taken for whole, and the next run
// goes on with it, or begins anew where it is of other prompts or damaged.
void complete(backend::Device& device, CalibrateOptions options, std::string_view component,
              const fs::path& file) {
  const auto of_component = [&](const fs::path& denoiser) {
    return component == kDecoder ? decoder_record(denoiser) : denoiser;
  };
  const fs::path begun = file.parent_path() / fmt::format("{}.partial{}", file.stem().string(),
                                                          file.extension().string());
  const fs::path partial = of_component(begun);
  const fs::path record = of_component(file);
  options.record = begun.string();
  std::error_code failed;
  const bool extends = fs::exists(record, failed);
  if (extends) fs::copy_file(record, partial, fs::copy_options::skip_existing, failed);
  try {
    static_cast<void>(Calibrator(device, options, component).run());
  } catch (const Error& error) {
    const bool is_unfit =
        error.code() == Errc::kInvalidArgument || error.code() == Errc::kCorruptFile;
    if (is_unfit && extends) fs::remove(partial, failed);
    if (!is_unfit || !fs::exists(partial, failed)) throw;
    options.restart = true;
    static_cast<void>(Calibrator(device, options, component).run());
  }
  fs::rename(partial, record, failed);
  if (failed && !fs::exists(record)) {  // else another process was faster
    throw Error(Errc::kIo, fmt::format("{}: cannot become {}: {}", partial.string(),
                                       record.string(), failed.message()));
  }
}

}  // namespace

void calibrate_if_missing(backend::Device& device, const SessionOptions& session,
                          const std::vector<std::string>& prompts,
                          const GenerateOptions& generate) {
  if (!may_need_record(session)) return;
  const Model model = open_model(session.model, session.cache_dir, {});
  const fs::path file = default_record(model, session.cache_dir);
  const bool has_own = !calibration_prompts(model).empty();
  if (file.empty() || (!has_own && prompts.empty())) return;
  const int wanted = session.quantization.calib_size;
  CalibrateOptions options;
  if (!has_own) {
    options.prompts = prompts;
    options.generate = generate;
    options.calib_size = std::min(options.calib_size, static_cast<int>(prompts.size()));
  }
  if (wanted > 0) options.calib_size = wanted;
  options.session = session;
  options.session.quantization = {};
  const auto make = [&](std::string_view component, const fs::path& record) {
    if (!is_missing(record, wanted)) return;
    log(session.logger, LogLevel::kInfo, "quant",
        fmt::format("too small or no calibration record yet: calibrating into {}",
                    record.string()));
    complete(device, options, component, file);
  };
  const auto recipe = recipe_of(session.quantization, session.precision, model);
  if (recipe && recipe->needs_record()) make(kDenoiser, file);
  if (is_quantized(session.vae_precision)) make(kDecoder, decoder_record(file));
}

}  // namespace halftone::workflow

namespace halftone {

std::string to_json(const CalibrateReport& report) {
  Json json = workflow::header("calibrate");
  json.set("record", report.record).set("hash", report.hash);
  if (!report.decoder_record.empty()) json.set("decoder_record", report.decoder_record);
  json.set("samples", report.samples).set("resumed_samples", report.resumed_samples);
  json.set("num_values", report.num_values).set("num_layers", report.num_layers);
  json.set("request", workflow::to_value(report.request)).set("total_ms", report.total_ms);
  return to_text(json);
}

}  // namespace halftone
