// Applies a recipe to a model's graph: Quantize and Dequantize nodes around the chosen layers, and
// smoothing factors folded into what produces their inputs.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "quant/recipe.h"
#include "quant/record.h"

namespace halftone::quant {

// One line of the resolved layer table.
struct LayerReport {
  std::string name;
  LayerKind kind = LayerKind::kLinear;
  int64_t num_weights = 0;                      // 0 for attentions
  std::optional<QuantSpec> weight, activation;  // nothing: kept as it was
  std::optional<AttentionSpec> attention;
  float input_amax = 0;   // largest magnitude that is kept, after smoothing; 0 when dynamic
  float input_scale = 0;  // 0 when dynamic
  // Of an attention's q, k and v: as above.
  std::array<float, 3> operand_amax{}, operand_scale{};
  std::string smoothing;  // "", "in <node>" (folded), "in the quantizer"
  std::string why;        // the rule, or why the layer was left alone
};

struct Applied {
  std::vector<LayerReport> layers;  // in the order of the graph
  // What the recipe asks for and no layer takes, and why: sentences.
  std::vector<std::string> unused;
  // Patterns of --exclude, --include and --alpha that fit no layer of this graph.
  std::vector<std::string> unmatched;
};

// Rewrites the graph that models::build returned (before any pass); it then computes the exact
// simulation, and compile folds what kernels can do in integers or FP8.
//
// For layers with an activation spec that read one value with one spec (q, k, v of an attention):
//   smoothing (linears with `smooth`): s_j = max_o |W[o,j]|^(1-alpha) / max|X[.,j]|^alpha over the
//   group's joined weights, 1 where max|X[.,j]| <= 2^-31, within [1e-4, 1e4]. X s is made where it
//   costs nothing: the gamma and beta of a norm that only this group reads, the rows of to_v before
//   an attention, the hidden rows of a GEGLU projection; else in the quantizer. W is divided by s.
//   static scale: amax / 127 (i8), amax / 448 (f8e4m3) with amax of the smoothed columns for
//   smoothed layers, the record's plain maximum for other linears (hist:P, mse and trt9 apply to
//   them too), and `collect` for convolutions.
// Weights are quantized by load-stage nodes, per output channel or per tensor.
// Shortcuts are split first where the recipe says so (quant/split.h): their halves are layers.
// Attentions with an attention spec: quant/attention.h. Their static scales are those of the plain
// maxima, v's of the maxima of its columns where to_v was smoothed; where q, k and v have one
// scale, the largest of the three counts for each. They are listed only when the recipe has rules
// for them.
// Layers at schedule rate are left alone (computed once a row); layers at prompt rate (text keys
// and values) get quantized weights only.
// `record` may be null when recipe.needs_record() is false. A layer that needs statistics which the
// record lacks is left alone and reported. `weights` is read for smoothing factors.
// Throws kInvalidArgument when a needed record is missing.
Applied apply(graph::Graph& graph, const Recipe& recipe, const CalibrationRecord* record,
              const WeightSource& weights);

// Layers that a recipe would change, without a record and with shortcuts whole: for --dry-run and
// inspect.
[[nodiscard]] std::vector<LayerReport> resolve(const graph::Graph& graph, const Recipe& recipe);

}  // namespace halftone::quant
