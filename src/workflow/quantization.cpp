#include "workflow/quantization.h"

#include <utility>

#include <fmt/format.h>

#include "halftone/error.h"

#include "base/hash.h"
#include "quant/schemes/vae.h"

namespace halftone::workflow {
namespace {

namespace fs = std::filesystem;

// What `halftone quantize` leaves in a model's folder.
constexpr const char* kFolder = "halftone";
constexpr const char* kRecipeFile = "recipe.json";
constexpr const char* kRecordFile = "calibration.safetensors";

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

quant::SchemeOptions scheme_options(const QuantizationOptions& options, std::string scheme) {
  quant::SchemeOptions result;
  result.scheme = std::move(scheme);
  result.level = options.level;
  result.alpha = options.alpha;
  result.smooth = options.smooth;
  result.per_token = options.per_token;
  result.static_producers = options.static_producers;
  result.static_min_sqnr = options.static_min_sqnr;
  result.alphas.assign(options.alphas.begin(), options.alphas.end());
  result.attention = options.attention;
  result.policy = options.policy;
  result.exclude = options.exclude;
  result.include = options.include;
  result.split_shortcut = options.split_shortcut;
  result.bos_aware = options.bos_aware;
  if (!options.collect_method.empty()) {
    result.method = quant::parse_method(options.collect_method, result.histogram_percentile);
  }
  if (!(options.percentile > 0 && options.percentile <= 1)) {
    throw Error(Errc::kInvalidArgument,
                fmt::format("--percentile: got {}, wanted a share of the steps above 0 and at "
                            "most 1; for a percentile of values give --collect-method hist:P",
                            options.percentile));
  }
  result.percentile = options.percentile;
  result.compat = quant::parse_compat(options.calib_compat);
  return result;
}

void check_record(const quant::CalibrationRecord& record, const Model& model,
                  const fs::path& path) {
  const std::string made_for = record.entry("model");
  if (made_for.empty()) return;
  if (made_for != model.checkpoint->content_hash()) {
    throw Error(Errc::kInvalidArgument,
                fmt::format("{}: calibrated for model {}, this model is {}; run 'halftone "
                            "calibrate' for it",
                            path.string(), made_for.substr(0, 8),
                            model.checkpoint->content_hash().substr(0, 8)));
  }
  const std::string loras = record.entry("loras");
  const std::string wanted = model.lora_identity();
  if (loras == wanted) return;
  const auto named = [](const std::string& text) { return text.empty() ? "no LoRA" : text; };
  throw Error(Errc::kInvalidArgument,
              fmt::format("{}: calibrated with {}, asked for {}; run 'halftone calibrate' with the "
                          "same --lora options, or leave --ranges out and a record is made",
                          path.string(), named(loras), named(wanted)));
}

// The record that a recipe with static scales wants; `command` makes it.
// `command` makes such a record.
quant::CalibrationRecord load_record(const fs::path& path, std::string_view command) {
  try {
    return quant::load_record(path);
  } catch (const Error& error) {
    if (error.code() != Errc::kCorruptFile) throw;
    ErrorDetails details = error.details() == nullptr ? ErrorDetails{} : *error.details();
    details.file = path.string();
    details.remedy =
        fmt::format("run '{} --restart' to make it anew (or name another with --ranges)", command);
    throw Error(error.code(), fmt::format("{}; {}", error.what(), details.remedy), details);
  }
}

void read_record(const fs::path& path, std::string_view command, const Model& model,
                 Quantization& result) {
  if (path.empty() || !is_file(path)) {
    throw Error(Errc::kNotFound,
                fmt::format("calibration record {}: is missing, and the recipe '{}' has static "
                            "scales; run '{}' (or name one with --ranges)",
                            path.empty() ? "(without a cache folder)" : path.string(),
                            result.recipe.scheme, command));
  }
  auto record = std::make_shared<quant::CalibrationRecord>(load_record(path, command));
  check_record(*record, model, path);
  result.record_hash = record->hash();
  result.record = std::move(record);
}

}  // namespace

std::optional<quant::Recipe> recipe_of(const QuantizationOptions& options, Precision precision,
                                       const Model& model, std::string* origin) {
  std::string from;
  std::optional<quant::Recipe> recipe;
  const fs::path kept = model.checkpoint->path() / kFolder / kRecipeFile;
  std::string scheme = options.scheme;
  if (scheme.empty() && precision == Precision::kI8) scheme = "int8";
  if (scheme.empty() && precision == Precision::kF8) scheme = "fp8";
  if (!options.recipe.empty()) {
    recipe = quant::load_recipe(options.recipe);
    from = options.recipe;
  } else if (!scheme.empty()) {
    recipe = quant::make_recipe(scheme_options(options, scheme));
    from = "scheme " + scheme;
  } else if (precision == Precision::kAuto && is_file(kept)) {
    recipe = quant::load_recipe(kept);
    from = kept.string();
  }
  if (recipe) {
    recipe->asks_split_shortcut = options.split_shortcut.value_or(false);
    recipe->asks_bos_aware = options.bos_aware.value_or(false);
  }
  if (origin != nullptr) *origin = std::move(from);
  return recipe;
}

fs::path default_record(const Model& model, const fs::path& cache_dir) {
  const std::string loras = model.lora_identity();
  fs::path kept = model.checkpoint->path() / kFolder / kRecordFile;
  if (loras.empty() && is_file(kept)) return kept;
  if (cache_dir.empty()) return {};
  std::string name = model.checkpoint->content_hash().substr(0, 16);
  if (!loras.empty()) name += "-" + to_hex(sha256(loras)).substr(0, 8);
  return cache_dir / "calibration" / (name + ".safetensors");
}

std::optional<Quantization> resolve_quantization(const QuantizationOptions& options,
                                                 Precision precision, const Model& model,
                                                 const fs::path& cache_dir, const Logger& logger) {
  Quantization result;
  auto recipe = recipe_of(options, precision, model, &result.origin);
  if (!recipe) return std::nullopt;
  result.recipe = std::move(*recipe);
  if (result.recipe.needs_record()) {
    const fs::path path =
        options.ranges.empty() ? default_record(model, cache_dir) : fs::path(options.ranges);
    read_record(path, "halftone calibrate -m MODEL --prompts-file FILE", model, result);
  }
  result.name = quant::readable_name(result.recipe, result.record.get());
  log(logger, LogLevel::kInfo, "quant", fmt::format("{} from {}", result.name, result.origin));
  return result;
}

Quantization resolve_decoder_quantization(const QuantizationOptions& options, Precision precision,
                                          const Model& model, const fs::path& cache_dir,
                                          const Logger& logger) {
  Quantization result;
  const DType codes = precision == Precision::kF8 ? DType::kF8E4M3 : DType::kI8;
  result.recipe = quant::make_vae_recipe(scheme_options(options, {}), codes);
  result.origin = "scheme " + result.recipe.scheme;
  const fs::path path =
      options.ranges.empty() ? default_record(model, cache_dir) : fs::path(options.ranges);
  read_record(decoder_record(path),
              fmt::format("halftone calibrate -m MODEL --prompts-file FILE --vae-precision {}",
                          to_string(precision)),
              model, result);
  result.name = quant::readable_name(result.recipe, result.record.get());
  log(logger, LogLevel::kInfo, "quant", fmt::format("{} from {}", result.name, result.origin));
  return result;
}

fs::path decoder_record(const fs::path& record) {
  if (record.empty()) return {};
  fs::path name = record.stem();
  name += ".vae";
  name += record.extension();
  return record.parent_path() / name;
}

void warn_unread(const QuantizationOptions& options, std::string_view reason, const Logger& logger,
                 const std::function<bool(const GivenOption&)>& is_read) {
  std::string flags;
  for (const GivenOption& given : given_options(options)) {
    if (!is_read(given)) flags.append(flags.empty() ? "" : ", ").append(given.flag);
  }
  if (flags.empty()) return;
  log(logger, LogLevel::kWarning, "quant", fmt::format("{}: without effect: {}", flags, reason));
}

void log_layers(const quant::Applied& applied, const Logger& logger) {
  for (const std::string& sentence : applied.unused) {
    log(logger, LogLevel::kWarning, "quant", sentence);
  }
  for (const std::string& pattern : applied.unmatched) {
    log(logger, LogLevel::kWarning, "quant",
        fmt::format("the pattern '{}' fits no layer of the denoiser; halftone inspect --layers "
                    "lists their names",
                    pattern));
  }
  for (const quant::LayerReport& layer : applied.layers) {
    const auto width = [](const std::optional<quant::QuantSpec>& spec) {
      return spec ? fmt::format("{}{}", spec->dtype == DType::kI8 ? "i" : "f", spec->bits) : "-";
    };
    log(logger, LogLevel::kDebug, "quant",
        fmt::format("{}: weight {} input {} amax {:.4g} {} ({})", layer.name, width(layer.weight),
                    width(layer.activation), layer.input_amax, layer.smoothing, layer.why));
  }
}

}  // namespace halftone::workflow
