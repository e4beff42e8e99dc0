#include "layers.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace halftone::cli {
namespace {

std::string number(double value) { return value > 0 ? fmt::format("{:.4g}", value) : "-"; }

// "q 3.1, k 4, v 2.2; scales 0.0069, 0.0089, 0.0049": an attention's static scales.
std::string operands(const QuantizedLayer& layer) {
  const auto &amax = layer.operand_amax, &scale = layer.operand_scale;
  if (std::ranges::all_of(amax, [](double value) { return value <= 0; })) return {};
  return fmt::format("; amax q {}, k {}, v {}; scales {}, {}, {}", number(amax[0]), number(amax[1]),
                     number(amax[2]), number(scale[0]), number(scale[1]), number(scale[2]));
}

std::string decibel(const std::optional<double>& value) {
  return value ? fmt::format("{:.1f}", *value) : "-";
}

}  // namespace

std::string layer_table(const QuantizeReport& report) {
  size_t width = 5;
  for (const QuantizedLayer& layer : report.layers) width = std::max(width, layer.name.size());
  std::string text =
      fmt::format("{:<{}} {:<7} {:<18} {:<22} {:>9} {:>10} {:>6}  {}\n", "layer", width, "op",
                  "weight", "input", "amax", "scale", "SQNR", "why; smoothing");
  for (const QuantizedLayer& layer : report.layers) {
    text += fmt::format("{:<{}} {:<7} {:<18} {:<22} {:>9} {:>10} {:>6}  {}{}{}\n", layer.name,
                        width, layer.op, layer.weight.empty() ? "-" : layer.weight,
                        layer.input.empty() ? "-" : layer.input, number(layer.input_amax),
                        number(layer.input_scale), decibel(layer.sqnr), layer.why, operands(layer),
                        layer.smoothing.empty() ? "" : "; smoothed " + layer.smoothing);
  }
  return text;
}

std::string layer_summary(const QuantizeReport& report) {
  const auto count = [&](auto quantized) {
    return std::count_if(report.layers.begin(), report.layers.end(), quantized);
  };
  const auto weights = count([](const QuantizedLayer& l) { return l.weight_bits > 0; });
  const auto inputs = count([](const QuantizedLayer& l) { return l.input_bits > 0; });
  constexpr double kMiB = 1024.0 * 1024.0;
  std::string text = fmt::format(
      "{} ({}): weights of {} of {} layers, inputs of {}; {:.1f} MiB instead of {:.1f} MiB in "
      "fp16{}\n",
      report.name, report.origin, weights, report.layers.size(), inputs,
      static_cast<double>(report.bytes) / kMiB, static_cast<double>(report.bytes_f16) / kMiB,
      report.total_ms > 0 ? fmt::format("; {:.1f} s", report.total_ms / 1000.0) : "");
  const auto measured = count([](const QuantizedLayer& l) { return l.sqnr.has_value(); });
  if (measured == 0) text += "SQNR: not measured yet; --sqnr draws a picture and measures it\n";
  return text;
}

}  // namespace halftone::cli
