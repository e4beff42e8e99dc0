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

// Whether its keys are made as often as its result, so of the image itself; a text's are made once
// a prompt.
[[nodiscard]] bool is_self_attention(const graph::Graph& graph, const graph::Node& attention);
// Its queries or its keys, whichever are fewer.
[[nodiscard]] int64_t num_tokens(const graph::Graph& graph, const graph::Node& attention);
// Whether q, k and v get one static scale, that of the largest magnitude of the three: of a
// self-attention in E4M3. Its steps are relative over 15 binades, so what is smaller keeps its
// digits, and one linear that makes all three may end in codes.
[[nodiscard]] bool has_one_scale(const graph::Graph& graph, const graph::Node& attention,
                                 const AttentionSpec& spec);

// Largest magnitudes of q, k and v, for static scales; equal where they have one scale.
struct AttentionRanges {
  float q = 0, k = 0, v = 0;
};

// Puts q, k and v of node `attention` through codes and has its probabilities rounded. Granularity
// per_token means a scale for each head's part of a token. `ranges` may be null when both specs are
// dynamic.
void quantize_attention(Editor& editor, size_t attention, const AttentionSpec& spec,
                        const AttentionRanges* ranges);

}  // namespace halftone::quant
