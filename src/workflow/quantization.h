// From the session's options to a recipe and the record that it needs.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "halftone/options.h"

#include "quant/apply.h"
#include "quant/recipe.h"
#include "quant/record.h"
#include "workflow/model.h"

namespace halftone::workflow {

struct Quantization {
  quant::Recipe recipe;
  std::shared_ptr<const quant::CalibrationRecord> record;  // null when the recipe needs none
  std::string record_hash;                                 // empty without a record
  std::string name;    // quant::readable_name: "int8.l2.5.bs2.s20.c32.p1.0.a0.8"
  std::string origin;  // of the recipe: a file, or "scheme int8"
};

// The recipe that these options ask for, or nothing. Throws as quant::load_recipe and make_recipe.
[[nodiscard]] std::optional<quant::Recipe> recipe_of(const QuantizationOptions& options,
                                                     Precision precision, const Model& model,
                                                     std::string* origin = nullptr);

// Where a model's calibration record is kept when no file is named; empty without a cache. The
// record in the model's folder is the model's without LoRAs; each set of them has its own.
[[nodiscard]] std::filesystem::path default_record(const Model& model,
                                                   const std::filesystem::path& cache_dir);

// Recipe and record. Throws kNotFound naming the command that makes a missing record,
// kInvalidArgument for a record of another model.
[[nodiscard]] std::optional<Quantization> resolve_quantization(
    const QuantizationOptions& options, Precision precision, const Model& model,
    const std::filesystem::path& cache_dir, const Logger& logger);

// The same of the VAE decoder in int8 or fp8, with `options`' policy, patterns and collect method.
// Its record lies beside the denoiser's.
[[nodiscard]] Quantization resolve_decoder_quantization(const QuantizationOptions& options,
                                                        Precision precision, const Model& model,
                                                        const std::filesystem::path& cache_dir,
                                                        const Logger& logger);

// The decoder's record that belongs to a denoiser's: "X.safetensors" -> "X.vae.safetensors".
[[nodiscard]] std::filesystem::path decoder_record(const std::filesystem::path& record);

// Warns of the options that nobody reads, with the reason; `is_read` tells those that are.
void warn_unread(const QuantizationOptions& options, std::string_view reason, const Logger& logger,
                 const std::function<bool(const GivenOption&)>& is_read);

// One debug line a layer, and warnings for what the recipe asks for and no layer takes.
void log_layers(const quant::Applied& applied, const Logger& logger);

}  // namespace halftone::workflow
