#include "workflow/plans.h"

#include <algorithm>

#include <fmt/format.h>

#include "halftone/error.h"

#include "base/file.h"
#include "base/folder.h"
#include "models/registry.h"
#include "pipeline/clock.h"
#include "quant/apply.h"
#include "quant/taps.h"
#include "runtime/plan_file.h"
#include "workflow/layer_table.h"
#include "workflow/suffix.h"

namespace halftone::workflow {
namespace {

int64_t extent(const pipeline::ShapeKey& shape, const std::string& name, int64_t fallback) {
  const auto found = shape.find(name);
  return found == shape.end() ? fallback : found->second;
}

models::BuildShape build_shape(const pipeline::ShapeKey& shape) {
  return {.batch = extent(shape, "batch", 1),
          .height = extent(shape, "height", 0),
          .width = extent(shape, "width", 0),
          .text_tokens = extent(shape, "text_tokens", 77),
          .cfg = extent(shape, "cfg", 0) != 0};
}

DType compute_dtype(Precision precision) {
  switch (precision) {
    case Precision::kBF16:
      return DType::kBF16;
    case Precision::kF16:
      return DType::kF16;
    default:
      return DType::kF32;
  }
}

}  // namespace

Precision resolve_precision(Precision wanted, const backend::DeviceInfo& device) {
  const bool is_gpu = device.has("cuda");
  if (wanted == Precision::kF16 && !is_gpu) {
    throw Error(Errc::kInvalidArgument,
                "not supported: --precision fp16 needs a CUDA device; on the CPU use bf16 or fp32");
  }
  if (wanted != Precision::kAuto && !is_quantized(wanted)) return wanted;
  if (is_gpu) return Precision::kF16;
  const bool native = device.has("amx_bf16") || device.has("avx512_bf16");
  return native ? Precision::kBF16 : Precision::kF32;
}

Precision resolve_vae_precision(Precision wanted, Precision precision,
                                const backend::DeviceInfo& device) {
  const bool chosen = wanted != Precision::kAuto && !is_quantized(wanted);
  if (chosen) return resolve_precision(wanted, device);
  // SDXL's VAE has activations beyond f16's range.
  return precision == Precision::kF16 ? Precision::kBF16 : precision;
}

namespace {

constexpr auto kIsDenoiser = [](const auto& file) { return file.plan->component == "unet"; };

bool computes_as(const runtime::Plan& a, const runtime::Plan& b) {
  return precision_name(a) == precision_name(b) &&
         a.fingerprint.entry("recipe") == b.fingerprint.entry("recipe") &&
         a.fingerprint.entry("calibration") == b.fingerprint.entry("calibration");
}

}  // namespace

PlanMaker::PlanMaker(const Model& model, const backend::Device& device, PlanOptions options)
    : model_(model),
      device_(device),
      options_(std::move(options)),
      structure_hash_(model.checkpoint->structure_hash()) {
  if (!options_.cache_dir.empty()) folder_ = options_.cache_dir / "plans";
  const Precision asked = options_.precision;
  if (!options_.engine_dir.empty()) {
    make_folders(options_.engine_dir);
    folder_ = options_.engine_dir;
  }
  if (!options_.plan.empty()) {
    take_files();
  } else if (!options_.taps) {
    quantization_ = resolve_quantization(options_.quantization, options_.precision, model,
                                         options_.cache_dir, options_.logger);
  }
  if (!options_.decoder_taps && is_quantized(options_.vae_precision)) {
    decoder_quantization_ = resolve_decoder_quantization(
        options_.quantization, options_.vae_precision, model, options_.cache_dir, options_.logger);
  }
  warn_of_unread(asked);
  if (quantization_ || decoder_quantization_) content_hash_ = model.checkpoint->content_hash();
  options_.precision = resolve_precision(options_.precision, device.info());
  options_.vae_precision =
      resolve_vae_precision(options_.vae_precision, options_.precision, device.info());
}

void PlanMaker::warn_of_unread(Precision asked) const {
  const QuantizationOptions& options = options_.quantization;
  const bool is_chosen = !options.recipe.empty() || !options.scheme.empty() || is_quantized(asked);
  if (is_chosen) return;
  std::string reason =
      "nothing is quantized; --precision int8 or fp8, --quant-type or --recipe does it";
  if (!options_.plan.empty()) reason = "the plan says what is quantized";
  if (quantization_) reason = quantization_->origin + " says what is quantized";
  if (decoder_quantization_) reason += " (of the denoiser)";
  const bool has_form = quantization_ || !options_.plan.empty();
  warn_unread(options, reason, options_.logger, [&](const GivenOption& given) {
    return (decoder_quantization_ && given.decoder_reads) || (has_form && !given.chooses);
  });
}

bool PlanMaker::is_from_file(const std::string& component) const {
  return has_plan_folder_ || (!options_.plan.empty() && component == "unet");
}

PlanWish PlanMaker::wish(const std::string& file) const {
  return {.file = file,
          .loras = lora_identity("unet"),
          .precision = options_.precision,
          .quantization = options_.quantization,
          .disabled_passes = options_.disabled_passes,
          .disabled_kernels = options_.disabled_kernels};
}

void PlanMaker::keep_fitting() {
  std::vector<FilePlan> fitting;
  std::optional<Error> reason;
  for (FilePlan& candidate : files_) {
    const auto& [file, plan] = candidate;
    try {
      if (!has_plan_folder_ || plan->component == "unet") {
        check_plan_file(*plan, model_, wish(file));
        runtime::check_fits(*plan, device_.info(), device_.kernels(), file);
      }
      fitting.push_back(std::move(candidate));
    } catch (const Error& error) {
      if (error.code() != Errc::kIncompatiblePlan) throw;
      reason = error;
    }
  }
  files_ = std::move(fitting);
  if (reason && std::ranges::none_of(files_, kIsDenoiser)) throw Error(*reason);
}

void PlanMaker::take_files() {
  std::error_code ignored;
  has_plan_folder_ = std::filesystem::is_directory(options_.plan, ignored);
  if (has_plan_folder_) {
    for (const std::filesystem::path& file : runtime::plans_in(options_.plan)) {
      files_.push_back({file.string(), runtime::load_plan(file)});
    }
  } else {
    files_.push_back({options_.plan, runtime::load_plan(options_.plan)});
  }
  keep_fitting();
  const auto first = std::ranges::find_if(files_, kIsDenoiser);
  if (first == files_.end()) {
    throw Error(Errc::kIncompatiblePlan,
                fmt::format("{}: holds no plan of the unet; 'halftone build --save {}' makes the "
                            "plans of a size (--engine-dir keeps those that are missing)",
                            options_.plan, options_.plan));
  }
  for (const FilePlan& other : files_) {
    if (!kIsDenoiser(other) || computes_as(*other.plan, *first->plan)) continue;
    throw Error(Errc::kInvalidArgument,
                fmt::format("{}: holds plans of the unet in {} and in {}; name the file, or say "
                            "which with --precision or the recipe",
                            options_.plan, workflow::precision_name(*first->plan),
                            workflow::precision_name(*other.plan)));
  }
  const std::string precision = first->plan->fingerprint.entry("precision");
  for (const Precision known : {Precision::kF32, Precision::kBF16, Precision::kF16}) {
    if (precision == to_string(known)) options_.precision = known;
  }
}

Precision PlanMaker::precision_of(const std::string& component) const {
  return component.starts_with("vae_") ? options_.vae_precision : options_.precision;
}

const Quantization* PlanMaker::quantization_of(const std::string& component) const {
  if (component == "unet") return quantization();
  const bool quantized = component == "vae_decoder" && decoder_quantization_;
  return quantized ? &*decoder_quantization_ : nullptr;
}

bool PlanMaker::has_taps(const std::string& component) const {
  return (component == "unet" && options_.taps) ||
         (component == "vae_decoder" && options_.decoder_taps);
}

bool PlanMaker::shows_inputs(const std::string& component) const {
  return component == "unet" && options_.shows_inputs;
}

std::string PlanMaker::lora_identity(const std::string& component) const {
  return model_.loras ? model_.loras->identity(checkpoint_component(component)) : std::string();
}

runtime::Fingerprint PlanMaker::fingerprint(const std::string& component,
                                            const pipeline::ShapeKey& shape) const {
  models::BuildOptions layer;
  choose_text_layer(model_.family(), layer);
  runtime::Fingerprint result;
  result.entries = {{"component", component},
                    {"family", model_.family()},
                    {"model", structure_hash_},
                    {"plan_makers", std::string(plan_makers_hash())},
                    {"precision", std::string(to_string(precision_of(component)))},
                    {"shape", pipeline::to_string(shape)},
                    {"text_layers_skipped", fmt::format("{}", layer.text_layers_skipped)}};
  const std::string loras = lora_identity(component);
  if (!loras.empty()) result.entries.emplace_back("lora", loras);
  const auto append = [&](const std::vector<std::pair<std::string, std::string>>& entries) {
    result.entries.insert(result.entries.end(), entries.begin(), entries.end());
  };
  if (const Quantization* quantization = quantization_of(component)) {
    result.entries.emplace_back("recipe", quantization->recipe.hash());
    result.entries.emplace_back("calibration", quantization->record_hash);
    result.entries.emplace_back("weights", content_hash_);
    result.entries.emplace_back("quantization", quantization->name);
    result.entries.emplace_back("simulate", options_.quantization.simulate ? "true" : "false");
  }
  if (has_taps(component)) result.entries.emplace_back("taps", "2");
  if (shows_inputs(component)) result.entries.emplace_back("shows_inputs", "1");
  append(runtime::library_entries(device_.info(), device_.kernels()));
  append(compile::compile_entries(compile_options()));
  return result;
}

std::string PlanMaker::readable_name(const std::string& component,
                                     const pipeline::ShapeKey& shape) const {
  std::string name = fmt::format("{}-{}", component, to_string(precision_of(component)));
  if (const Quantization* quantization = quantization_of(component))
    name += "-" + quantization->name;
  if (has_taps(component)) name += "-taps";
  if (shows_inputs(component)) name += "-inputs";
  for (const auto& [key, value] : shape) name += fmt::format("-{}{}", key.substr(0, 1), value);
  return name;
}

std::string PlanMaker::precision_name(const std::string& component) const {
  std::string name(to_string(precision_of(component)));
  if (const Quantization* quantization = quantization_of(component))
    name += "+" + quantization->name;
  return name;
}

compile::CompileOptions PlanMaker::compile_options() const {
  compile::CompileOptions result;
  result.logger = options_.logger;
  result.disabled_passes.insert(options_.disabled_passes.begin(), options_.disabled_passes.end());
  for (const std::string& pattern : options_.disabled_kernels) {
    result.disabled_kernels.insert(pattern);
    if (std::ranges::any_of(device_.kernels(), [&](const backend::Kernel* kernel) {
          return compile::names_kernel(pattern, kernel->name);
        })) {
      continue;
    }
    throw Error(Errc::kInvalidArgument,
                fmt::format("no kernel of {} is named '{}'; 'halftone inspect' lists them",
                            device_.info().name, pattern));
  }
  if (options_.quantization.simulate) result.disabled_passes.insert("fold_quantize");
  return result;
}

graph::Graph PlanMaker::graph(const std::string& component, const pipeline::ShapeKey& shape,
                              std::vector<QuantizedLayer>* rows) const {
  const JsonView config = model_.checkpoint->config(checkpoint_component(component));
  models::BuildOptions options{.compute_dtype = compute_dtype(precision_of(component))};
  choose_text_layer(model_.family(), options);
  graph::Graph graph = models::build(component, models::class_name_of(config.value()), config,
                                     build_shape(shape), options, options_.logger);
  compile::run_early_passes(graph, compile_options());
  if (has_taps(component)) static_cast<void>(quant::insert_taps(graph));
  if (shows_inputs(component)) show_inputs(graph);
  if (const Quantization* quantization = quantization_of(component)) {
    auto applied =
        quant::apply(graph, quantization->recipe, quantization->record.get(), model_.weights());
    if (decoder_quantization_) applied.unmatched.clear();  // they may mean its layers
    log_layers(applied, options_.logger);
    if (rows != nullptr) *rows = layer_rows(applied);
  }
  return graph;
}

std::string precision_name(const runtime::Plan& plan) {
  std::string name = plan.fingerprint.entry("precision");
  const std::string quantization = plan.fingerprint.entry("quantization");
  if (!quantization.empty()) name += "+" + quantization;
  if (plan.fingerprint.entry("simulate") == "true") name += " (simulated)";
  return name;
}

runtime::Plan PlanMaker::build(const std::string& component,
                               const pipeline::ShapeKey& shape) const {
  runtime::Plan plan;
  plan.component = component;
  plan.fingerprint = fingerprint(component, shape);
  plan.metadata = plan_metadata(*model_.checkpoint, component);
  std::vector<QuantizedLayer> rows;
  plan.profiles.push_back(compile::compile_profile(
      graph(component, shape, &rows), shape, device_.info(), device_.kernels(), compile_options()));
  if (!rows.empty()) plan.metadata[kLayersKey] = to_text(to_value(rows));
  return plan;
}

const PlanMaker::FilePlan& PlanMaker::from_file(const std::string& component,
                                                const pipeline::ShapeKey& shape) const {
  std::string shapes;
  std::optional<Error> reason;
  for (const FilePlan& candidate : files_) {
    const auto& [file, plan] = candidate;
    if (plan->component != component) continue;
    shapes += (shapes.empty() ? "" : ", ") + plan->fingerprint.entry("shape");
    if (!pipeline::find_profile(*plan, shape)) continue;
    if (component == "unet") return candidate;
    try {
      check_component_plan(*plan, fingerprint(component, shape), wish(file));
      runtime::check_fits(*plan, device_.info(), device_.kernels(), file);
      return candidate;
    } catch (const Error& error) {
      if (error.code() != Errc::kIncompatiblePlan) throw;
      reason = error;  // the folder may hold another's that fits
    }
  }
  if (reason) throw Error(*reason);
  if (shapes.empty()) {
    throw Error(
        Errc::kIncompatiblePlan,
        fmt::format("{}: holds no plan of {}; run 'halftone build'", options_.plan, component));
  }
  throw Error(Errc::kIncompatiblePlan,
              fmt::format("{}: {} built for {}, asked for {}; run 'halftone build' for this size",
                          options_.plan, component, shapes, pipeline::to_string(shape)));
}

pipeline::PlanSource PlanMaker::get(const std::string& component,
                                    const pipeline::ShapeKey& shape) const {
  if (is_from_file(component)) {
    const FilePlan& taken = from_file(component, shape);
    return {.plan = taken.plan, .weights = &model_.weights(), .origin = "file", .file = taken.file};
  }
  const pipeline::Stopwatch clock;
  runtime::PlanCache cache(folder_, options_.logger);
  auto found = cache.get(fingerprint(component, shape), readable_name(component, shape),
                         [&] { return build(component, shape); });
  pipeline::PlanSource source{.plan = std::move(found.plan),
                              .weights = &model_.weights(),
                              .origin = found.from_cache ? "cache" : "built",
                              .file = found.file.string(),
                              .build_ms = found.from_cache ? 0 : clock.ms()};
  if (quantization_of(component) != nullptr && !options_.cache_dir.empty()) {
    keep_constants(component, source);
  }
  return source;
}

// All sizes share their weights, so the shape does not belong to what they depend on; nor do the
// sources of plans, as each of the file's keys says how its constant is made.
void PlanMaker::keep_constants(const std::string& component, pipeline::PlanSource& source) const {
  runtime::Fingerprint identity = source.plan->fingerprint;
  std::erase_if(identity.entries, [](const auto& entry) {
    return entry.first == "shape" || entry.first == "plan_makers";
  });
  source.constants_identity = identity.hash();
  source.constants_file =
      (options_.cache_dir / "weights" /
       fmt::format("{}-{}.constants", component, source.constants_identity.substr(0, 16)))
          .string();
}

PlanChoice PlanMaker::choice(const std::string& component, const pipeline::ShapeKey& shape) const {
  const runtime::Fingerprint wanted = fingerprint(component, shape);
  PlanChoice choice{.component = component,
                    .fingerprint = wanted.hash(),
                    .precision = precision_name(component),
                    .file = {},
                    .is_cached = false};
  if (is_from_file(component)) {
    const FilePlan& taken = from_file(component, shape);
    choice.fingerprint = taken.plan->fingerprint.hash();
    choice.precision = workflow::precision_name(*taken.plan);
    choice.file = taken.file;
    return choice;
  }
  if (folder_.empty()) return choice;
  const auto file =
      folder_ / runtime::PlanCache::file_name(wanted, readable_name(component, shape));
  std::error_code ignored;
  choice.is_cached = std::filesystem::exists(file, ignored);
  choice.file = file.string();
  return choice;
}

}  // namespace halftone::workflow
