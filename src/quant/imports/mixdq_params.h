// MixDQ's quantization parameters: ckpt.pth and new_ckpt.pth.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "quant/imports/mixdq.h"
#include "quant/recipe.h"

namespace halftone::quant {

// The widths 2, 4 and 8, in the order of its lists.
inline constexpr std::array<int64_t, 3> kMixdqWidths = {2, 4, 8};

// Asymmetric: x is about delta * (q - zero), q from 0 to 2^bits - 1.
struct MixdqInput {
  std::array<float, 3> delta{}, zero{};
};

struct MixdqParams {
  // Layer -> a width -> scales of the output channels. A layer "name_0" is the second half (of the
  // input channels) of a split shortcut.
  std::map<std::string, std::array<std::vector<float>, 3>> weights;
  std::map<std::string, MixdqInput> inputs;
  std::vector<std::string> warnings;
};

// Keys "<module>.weight_quantizer" and ".act_quantizer" (with "_0": second half), each a list of
// [OrderedDict, ...] (ckpt.pth) or a dict (new_ckpt.pth) with delta_list and zero_point_list. Those
// of an attention's q, k and v (act_quantizer_q, ...) are skipped. Throws kCorruptFile naming file
// and key: a list that is missing or of other extents, scales that are not positive and finite,
// zero points outside of 0 to 2^bits - 1, weights with zero points. Warns where scales are so small
// that fp16 has lost bits of them.
[[nodiscard]] MixdqParams read_mixdq_params(const std::filesystem::path& path);

// A recipe of mixdq_recipe with the file's ranges for its inputs: of a split shortcut the halves',
// where the file has both; a shortcut that the recipe leaves whole gets a range that holds both.
// Throws kInvalidArgument for an input that the file does not have.
[[nodiscard]] Recipe with_mixdq_ranges(Recipe recipe, const BitTable& inputs,
                                       const MixdqParams& params);

// Layer names: lines, or a list of strings that torch.save wrote (MixDQ's act_sensitivie_a8_1%.pt);
// "model." is dropped.
[[nodiscard]] std::vector<std::string> read_layer_list(const std::filesystem::path& path);

}  // namespace halftone::quant
