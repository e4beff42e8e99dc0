// SmoothQuant: the factors of a group of linears that share an input, and where they go.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "quant/editor.h"

namespace halftone::quant {

// s_j = w_j^(1-alpha) / a_j^alpha; 1 where a_j <= 2^-31; within [1e-4, 1e4].
[[nodiscard]] std::vector<float> smoothing_factors(const std::vector<float>& input_amax,
                                                   const std::vector<float>& weight_amax,
                                                   double alpha);

// Of each column of weights [out, in] of the checkpoint: the largest magnitude and the sum of
// squares.
struct ColumnStats {
  std::vector<float> amax;
  std::vector<double> energy;
};
// Adds a weight; `stats` is empty or has as many columns.
void add_columns(const graph::Value& weight, const WeightSource& weights, ColumnStats& stats);

// Noise of equal strength in every column of x s, as a layer's output has it, over the same noise
// in every column of x: W is divided by s. 1 without factors.
[[nodiscard]] double noise_gain(const std::vector<float>& s, const std::vector<double>& energy);

// Where x * s can be made for nothing, when `readers` nodes and nobody else read x.
struct Fold {
  enum class Place : uint8_t { kNorm, kRows } place = Place::kNorm;
  size_t node = Editor::kNone;  // the norm, or the linear whose weight rows are scaled
  size_t first_rows = 0;        // kRows: how many rows get s (the rest of a GEGLU gets 1)
};
[[nodiscard]] std::optional<Fold> find_fold(const Editor& editor, graph::ValueId x, size_t readers);

// gamma and beta of a norm become gamma * s and beta * s.
void scale_norm(Editor& editor, size_t norm, const std::vector<float>& s);

}  // namespace halftone::quant
