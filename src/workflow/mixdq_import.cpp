#include "workflow/mixdq_import.h"

#include <string>

#include <fmt/format.h>

#include "halftone/error.h"

#include "base/file.h"
#include "quant/imports/mixdq.h"
#include "quant/imports/mixdq_params.h"
#include "quant/split.h"

namespace halftone::workflow {
namespace {

std::string tensor_of(const std::string& layer) { return "unet/" + layer + ".weight"; }

quant::BitTable read_table(const std::string& path, const Model& model) {
  quant::BitTable table = quant::parse_bit_table(read_text_file(path), path);
  for (const auto& [layer, bits] : table) {
    if (model.weights().contains(tensor_of(layer))) continue;
    throw Error(Errc::kInvalidArgument,
                fmt::format("{}: '{}' is no layer of this model's denoiser", path, layer));
  }
  return table;
}

void check_channels(const quant::MixdqParams& params, const quant::BitTable& weights,
                    const std::string& path, const Model& model) {
  for (const auto& [layer, bits] : weights) {
    const auto channels = static_cast<size_t>(model.weights().type(tensor_of(layer)).shape[0]);
    for (const std::string& name : {layer, quant::second_half(layer)}) {
      const auto found = params.weights.find(name);
      if (found == params.weights.end() || found->second[0].size() == channels) continue;
      throw Error(Errc::kInvalidArgument,
                  fmt::format("{}: '{}' has scales of {} channels, the model {}", path, name,
                              found->second[0].size(), channels));
    }
  }
}

}  // namespace

quant::Recipe import_mixdq(const QuantizeOptions& options, const Model& model,
                           const Logger& logger) {
  const quant::BitTable weights = read_table(options.weight_bits, model);
  quant::BitTable inputs;
  if (!options.act_bits.empty()) inputs = read_table(options.act_bits, model);
  if (!options.protect.empty()) {
    for (const std::string& layer : quant::read_layer_list(options.protect)) inputs.erase(layer);
  }
  const bool moving_averages = options.session.quantization.calib_compat == "mixdq";
  quant::Recipe recipe = quant::mixdq_recipe(weights, inputs, moving_averages);
  recipe.split_shortcut = options.session.quantization.split_shortcut.value_or(true);
  recipe.bos_aware = options.session.quantization.bos_aware.value_or(true);
  if (options.quant_params.empty()) return recipe;
  const quant::MixdqParams params = quant::read_mixdq_params(options.quant_params);
  for (const std::string& warning : params.warnings) {
    log(logger, LogLevel::kWarning, "quant", warning);
  }
  check_channels(params, weights, options.quant_params, model);
  return quant::with_mixdq_ranges(std::move(recipe), inputs, params);
}

}  // namespace halftone::workflow
