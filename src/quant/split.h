// MixDQ's split shortcuts: a convolution that reads two joined values becomes one of each, so that
// each part has scales of its own.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "graph/graph.h"
#include "quant/recipe.h"
#include "quant/record.h"

namespace halftone::quant {

// The parts of what a shortcut reads.
struct JoinedInput {
  graph::ValueId first, second;
  int64_t width;  // channels of `first`
};
// Of a plain 1x1 convolution with a weight of the checkpoint over a concat of two values along the
// channels; nothing for every other node.
[[nodiscard]] std::optional<JoinedInput> joined_input(const graph::Graph& graph,
                                                      const graph::Node& node);

// A split shortcut's first half keeps its name; the second is called as MixDQ calls its quantizers:
// "<shortcut>_0".
[[nodiscard]] std::string second_half(std::string_view shortcut);
// The shortcut that a layer is the second half of by its name; empty for other names.
[[nodiscard]] std::string_view shortcut_of(std::string_view layer);
// What the first half reads, in calibration records, where the shortcut's own name stands for the
// whole: "<shortcut>/first". The second half's input has its layer's name.
[[nodiscard]] std::string first_input(std::string_view shortcut);

// Splits the shortcuts that `recipe` quantizes, when it says so: y = conv(x) + bias becomes
// (first(a) + bias) + second(b), the weight's columns shared out. A shortcut stays whole when a
// half needs a range that the record (which may be null) does not hold.
void split_shortcuts(graph::Graph& graph, const Recipe& recipe, const CalibrationRecord* record);

}  // namespace halftone::quant
