// MixDQ's bit files (weight_*.yaml, act_*.yaml) and OneDiff's list of submodules.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "quant/recipe.h"

namespace halftone::quant {

// Layer -> bits.
using BitTable = std::map<std::string, int64_t>;

// Lines "layer: bits" with bits 2, 4 or 8; a prefix "model." is dropped; comments and empty lines
// are skipped. Nothing else of YAML is read: anchors, tags, nesting, several documents and
// duplicate keys are errors (kCorruptFile with the line), as are other widths.
[[nodiscard]] BitTable parse_bit_table(std::string_view text, std::string_view where);
[[nodiscard]] std::string print_bit_table(const BitTable& table);

// MixDQ's recipe: weights per output channel with their bits; inputs asymmetric per tensor with
// theirs, kept as they are where `inputs` lacks the layer. Ranges come from the calibration record
// (`mixdq_ranges`: its moving averages instead of its extremes). Its shortcuts are split.
[[nodiscard]] Recipe mixdq_recipe(const BitTable& weights, const BitTable& inputs,
                                  bool mixdq_ranges);

// {"layer": {"ssim": x}, ...}: the `top_percentage` percent with the highest SSIM, best first.
// Throws kCorruptFile naming the key.
[[nodiscard]] std::vector<std::string> parse_onediff_layers(std::string_view text,
                                                            std::string_view where,
                                                            double top_percentage);
// The recipe whose linears outside the list stay as they are.
[[nodiscard]] Recipe only_layers(const Recipe& recipe, const std::vector<std::string>& layers);

// "^name$" with its special characters escaped.
[[nodiscard]] std::string exact_pattern(std::string_view name);

}  // namespace halftone::quant
