#include "workflow/generator.h"

#include <algorithm>
#include <random>

#include <fmt/format.h>
#include <sys/resource.h>

#include "halftone/error.h"

#include "base/folder.h"
#include "io/safetensors.h"
#include "pipeline/clock.h"
#include "runtime/plan_file.h"
#include "workflow/image_metadata.h"

namespace halftone::workflow {
namespace {

namespace fs = std::filesystem;

uint64_t random_seed() {
  std::random_device device;
  return device();  // 32 bits, as other tools show and accept
}

uint64_t peak_rss_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;  // Linux counts KiB
}

// Initial and final latents of all batches, written when the run is complete.
class LatentDump {
 public:
  explicit LatentDump(std::string path) : path_(std::move(path)) {}

  void add(const pipeline::Result& result) {
    if (path_.empty()) return;
    initial_.push_back(result.initial.clone());
    latents_.push_back(result.latents.clone());
  }

  void write() const {
    if (path_.empty()) return;
    std::vector<int64_t> dims = latents_.front().shape().dims();
    dims[0] *= static_cast<int64_t>(latents_.size());
    const TensorType type{DType::kF32, Shape(dims)};
    io::SafetensorsWriter writer(path_, {{"initial", type}, {"latents", type}});
    write(writer, 0, initial_);
    write(writer, 1, latents_);
    writer.commit();
  }

 private:
  static void write(io::SafetensorsWriter& writer, size_t index, const std::vector<Tensor>& parts) {
    uint64_t offset = 0;
    for (const Tensor& part : parts) {
      const size_t size = part.type().num_bytes();
      writer.write(index, offset, {part.data(), size});
      offset += size;
    }
  }

  std::string path_;
  std::vector<Tensor> initial_, latents_;
};

void add_times(const std::vector<pipeline::StageTime>& times, std::vector<ModuleTime>& modules) {
  for (const pipeline::StageTime& time : times) {
    const auto found = std::find_if(modules.begin(), modules.end(),
                                    [&](const ModuleTime& m) { return m.name == time.name; });
    if (found == modules.end()) {
      modules.push_back({time.name, time.runs, time.ms});
    } else {
      found->runs += time.runs;
      found->ms += time.ms;
    }
  }
}

std::vector<LoraUse> lora_uses(const io::LoraWeights& loras) {
  std::vector<LoraUse> uses;
  for (const io::LoraWeights::Entry& entry : loras.entries()) {
    uses.push_back({.file = entry.lora->file.file().path().string(),
                    .hash = entry.lora->hash,
                    .weight = entry.weight,
                    .num_modules = static_cast<int>(entry.lora->modules.size())});
  }
  return uses;
}

// Of the module with this name; 0 when it did not run.
double runs_per_second(const std::vector<ModuleTime>& modules, std::string_view name) {
  const auto found = std::ranges::find(modules, name, &ModuleTime::name);
  return found == modules.end() || found->ms <= 0 ? 0.0 : found->runs / (found->ms / 1000.0);
}

}  // namespace

Generator::Generator(backend::Device& device, SessionOptions options, bool taps)
    : device_(device),
      options_(std::move(options)),
      model_(open_model(options_.model, options_.cache_dir, options_.logger)),
      plans_(model_, device_,
             {.precision = options_.precision,
              .vae_precision = options_.vae_precision,
              .cache_dir = options_.cache_dir,
              .engine_dir = options_.engine_dir,
              .plan = options_.plan,
              .quantization = options_.quantization,
              .taps = taps,
              .disabled_passes = options_.disabled_passes,
              .disabled_kernels = options_.disabled_kernels,
              .logger = options_.logger}) {}

PreparedRequest Generator::prepare(const GenerateOptions& options) const {
  PreparedRequest prepared = prepare_request(model_, options);
  ResolvedRequest& r = prepared.resolved;
  r.device = device_.info().name;
  r.precision = std::string(to_string(plans_.precision_of("unet")));
  r.vae_precision = std::string(to_string(plans_.precision_of("vae_decoder")));
  if (model_.loras) r.loras = lora_uses(*model_.loras);
  for (const std::string& note : prepared.notes) {
    log(options_.logger, LogLevel::kWarning, "request", note);
  }
  return prepared;
}

const PlanMaker& Generator::fp32_plans() {
  if (!fp32_plans_) {
    fp32_plans_ =
        std::make_unique<PlanMaker>(model_, device_,
                                    PlanOptions{.precision = Precision::kF32,
                                                .vae_precision = Precision::kF32,
                                                .cache_dir = options_.cache_dir,
                                                .engine_dir = options_.engine_dir,
                                                .disabled_passes = options_.disabled_passes,
                                                .disabled_kernels = options_.disabled_kernels,
                                                .logger = options_.logger});
  }
  return *fp32_plans_;
}

std::function<void(const std::string&, const runtime::ObservedCall&)> Generator::observer() {
  if (!options_.reference_check) return {};
  return [this](const std::string& component, const runtime::ObservedCall& call) {
    reference_check_.add(component, call);
  };
}

pipeline::Pipeline& Generator::pipeline(bool profile) {
  if (!pipeline_ || profile != profiled_) {
    pipeline_.reset();
    // Warnings of the library go to the report as well.
    const Logger keep = [this](LogLevel level, std::string_view component, std::string_view text) {
      if (level == LogLevel::kWarning) warnings_.emplace_back(text);
      log(options_.logger, level, component, text);
    };
    pipeline_ = std::make_unique<pipeline::Pipeline>(pipeline::PipelineOptions{
        .device = &device_,
        .plans =
            [this](const pipeline::WantedPlan& wanted) {
              const PlanMaker& maker = wanted.fp32 ? fp32_plans() : plans_;
              return maker.get(wanted.component, wanted.shape);
            },
        .facts = model_.facts,
        .tokenizers = model_.tokenizers,
        .profile = profile,
        .record = options_.device_graphs,
        .low_vram = options_.low_vram,
        .pair_texts = pairs_texts(),
        .observer = observer(),
        .logger = keep});
    profiled_ = profile;
  }
  return *pipeline_;
}

PlanUse Generator::plan_use(const pipeline::Components::Use& use) const {
  return {.component = use.component,
          .fingerprint = use.plan->fingerprint.hash(),
          .precision = precision_name(*use.plan),
          .origin = use.origin,
          .file = use.file,
          .build_ms = use.build_ms};
}

void Generator::report_memory(GenerateReport& report) const {
  const auto dynamic = [](const runtime::MemoryReport& memory) {
    return memory.persistent_bytes + memory.arena_bytes + memory.schedule_bytes;
  };
  const pipeline::Components& components = pipeline_->components();
  const runtime::MemoryReport all = components.memory();
  report.memory = {.static_bytes = all.constant_bytes,
                   .dynamic_bytes = dynamic(all),
                   .peak_rss_bytes = peak_rss_bytes(),
                   .device_peak_bytes = device_.peak_bytes()};
  for (const PlanUse& plan : report.plans) {
    const runtime::MemoryReport one = components.memory_of(plan.component);
    report.component_memory.push_back({.component = plan.component,
                                       .static_bytes = one.constant_bytes,
                                       .dynamic_bytes = dynamic(one)});
  }
}

// Where both read the weights from memory anew; plan files hold the shapes that they hold.
bool Generator::pairs_texts() const {
  return !device_.info().host_visible_memory && options_.plan.empty();
}

DryRun Generator::dry_run(const GenerateOptions& options) const {
  const PreparedRequest prepared = prepare(options);
  const ResolvedRequest& r = prepared.resolved;
  DryRun result{.request = r, .plans = {}};
  const pipeline::Pipeline shapes({.device = &device_,
                                   .plans = {},
                                   .facts = model_.facts,
                                   .tokenizers = model_.tokenizers,
                                   .pair_texts = pairs_texts(),
                                   .logger = {}});
  for (const auto& wanted : shapes.wanted(
           r.width, r.height, r.batch_size, r.cfg, options.output_type == OutputType::kImage,
           !r.init_image.empty(), shapes.texts_at_once(r.cfg, r.has_negative_prompt))) {
    result.plans.push_back(plans_.choice(wanted.component, wanted.shape));
  }
  return result;
}

GenerateReport Generator::generate(const GenerateOptions& options, const ImageSink& on_image,
                                   const StepSink& on_step) {
  const pipeline::Stopwatch clock;
  const PreparedRequest prepared = prepare(options);
  warnings_ = prepared.notes;
  const ResolvedRequest& r = prepared.resolved;
  GenerateReport report;
  report.request = r;
  const uint64_t seed = r.random_seed ? random_seed() : r.seed;
  const std::string hash = model_hash(*model_.checkpoint);
  pipeline::Pipeline& pipe = pipeline(profiled_);
  LatentDump dump(options.dump_latents);
  for (int batch = 0; batch < r.batch_count; ++batch) {
    Tensor latents;
    pipeline::Request request = batch_request(prepared, options, seed, batch, latents);
    request.progress = [&](const Progress& progress) {
      Progress shown = progress;
      shown.image = batch * r.batch_size;
      return !options_.progress || options_.progress(shown);
    };
    request.on_step = on_step;
    pipeline::Result result = pipe.generate(request);
    model_.check_unchanged();
    for (const auto& use : result.plans) {
      PlanUse plan = plan_use(use);
      if (std::ranges::find(report.plans, plan.fingerprint, &PlanUse::fingerprint) ==
          report.plans.end()) {
        report.plans.push_back(std::move(plan));
      }
    }
    add_times(result.times, report.modules);
    report.pipeline_ms += result.total_ms;
    report.load_ms += result.load_ms;
    report.build_ms += result.build_ms;
    dump.add(result);
    for (int i = 0; i < r.batch_size; ++i) {
      const uint64_t own_seed = request.seeds[static_cast<size_t>(i)];
      report.seeds.push_back(own_seed);
      if (!request.decode) continue;
      on_image({.width = r.width,
                .height = r.height,
                .rgb = std::move(result.rgb[static_cast<size_t>(i)]),
                .seed = own_seed,
                .parameters = parameters_text(r, own_seed, hash),
                .metadata = image_json(r, own_seed, report.plans)});
    }
  }
  dump.write();
  if (const uint64_t bad = model_.checkpoint->num_non_finite(); bad > 0) {
    warnings_.push_back(fmt::format("the weights hold {} values that are not finite", bad));
    log(options_.logger, LogLevel::kWarning, "model", warnings_.back());
  }
  report.steps_per_second = runs_per_second(report.modules, pipe.family().denoiser_label);
  report.num_images = static_cast<int>(report.seeds.size());
  report_memory(report);
  report.checks = reference_check_.worst_first();
  report.warnings = warnings_;
  report.total_ms = clock.ms();
  return report;
}

BuildReport Generator::build(const BuildOptions& options) {
  const pipeline::Stopwatch clock;
  GenerateOptions generate;
  generate.width = options.width;
  generate.height = options.height;
  generate.batch_size = options.batch_size;
  generate.guidance = options.guidance;
  const ResolvedRequest r = prepare(generate).resolved;
  auto wanted =
      pipeline(profiled_).wanted(r.width, r.height, r.batch_size, r.cfg, true,
                                 options.with_vae_encoder || options.component == "vae_encoder");
  if (!options.component.empty()) {
    std::string known;
    for (const auto& item : wanted) known += (known.empty() ? "" : ", ") + item.component;
    std::erase_if(wanted, [&](const auto& item) { return item.component != options.component; });
    if (wanted.empty()) {
      throw Error(Errc::kInvalidArgument,
                  fmt::format("component: got '{}', wanted one of {}", options.component, known));
    }
  }
  BuildReport report;
  report.model = r.model;
  report.device = r.device;
  const auto total = static_cast<int>(wanted.size());
  for (int i = 0; i < total; ++i) {
    if (options_.progress && !options_.progress({.stage = "build", .done = i, .total = total})) {
      throw Error(Errc::kCancelled, "cancelled while building");
    }
    const auto& item = wanted[static_cast<size_t>(i)];
    const pipeline::PlanSource source = plans_.get(item.component, item.shape);
    report.plans.push_back(plan_use({.component = item.component,
                                     .plan = source.plan,
                                     .origin = source.origin,
                                     .file = source.file,
                                     .build_ms = source.build_ms}));
    if (options.save.empty()) continue;
    fs::path file = options.save;
    if (total > 1 || fs::is_directory(file)) {
      make_folders(file);
      file /= item.component + ".plan";
    }
    runtime::save_plan(*source.plan, file);
    report.files.push_back(file.string());
  }
  report.total_ms = clock.ms();
  return report;
}

}  // namespace halftone::workflow
