// Taps: statistics of values as ordinary graph outputs.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"

namespace halftone::quant {

struct TapOptions {
  bool histograms = true;
};

// A value that at least one quantizable layer reads; q, k or v of an attention, which is a layer
// of its own by the name quant::operand_name; a part of what a shortcut reads, by the names of
// quant/split.h.
struct Tap {
  std::string value;                // name: the first layer that reads it
  std::vector<std::string> layers;  // all of them
  graph::Rate rate;                 // kPrompt or kStep
  int64_t channels;
  bool histogram;
};

// Layers that quantizers may touch: linear and conv2d nodes whose weight is a tensor of the
// checkpoint. In the order of the graph.
[[nodiscard]] bool is_layer(const graph::Graph& graph, const graph::Node& node);

// Adds reductions of the input of every layer, and of q, k and v of every attention that 8 bits
// suit (without histograms: their scales come from extremes), and of both parts of what shortcuts
// read, that is computed at prompt or step rate (results of the schedule stage are computed once a
// row and never quantized), and makes them outputs named output_name(tap, statistic). Text inputs
// (prompt rate) are tapped a second time without token 0, whose outliers do not depend on the
// prompt: the tap without_first(value) (quant/record.h), for the same layers. A pure rewrite: call
// it on the graph that models::build returns, then compile as usual.
[[nodiscard]] std::vector<Tap> insert_taps(graph::Graph& graph, const TapOptions& options = {});

// statistic: "min", "max" (f32[1], signed), "columns" (f32[channels], absmax), "histogram".
[[nodiscard]] std::string output_name(std::string_view value, std::string_view statistic);

}  // namespace halftone::quant
