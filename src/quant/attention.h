// Attentions in 8 bits: their codes as Quantize and Dequantize nodes around q, k and v.
#pragma once

#include <optional>
#include <string>

#include "quant/editor.h"
#include "quant/recipe.h"

namespace halftone::quant {

// Head widths that 8-bit attention kernels take are multiples of it.
inline constexpr int64_t kAttentionHeadStep = 16;

// An attention that a recipe may change: one of a graph's q, k, v that are made at prompt or step
// rate, with heads of a multiple of kAttentionHeadStep channels.
[[nodiscard]] bool is_attention(const graph::Node& node);
[[nodiscard]] int64_t head_width(const graph::Graph& graph, const graph::Node& attention);
// Names of q, k and v in calibration records: "<attention>/q".
[[nodiscard]] std::string operand_name(std::string_view attention, graph::Role role);

// Largest magnitudes of q, k and v, for static scales.
struct AttentionRanges {
  float q = 0, k = 0, v = 0;
};

// Puts q, k and v of node `attention` through codes and has its probabilities rounded. Granularity
// per_token means a scale for each head's part of a token. `ranges` may be null when both specs are
// dynamic.
void quantize_attention(Editor& editor, size_t attention, const AttentionSpec& spec,
                        const AttentionRanges* ranges);

}  // namespace halftone::quant
