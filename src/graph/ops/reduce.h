#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// Statistics of a value for observers (calibration taps): maximum of |x|, minimum, maximum (exact)
// or sum of squares, as f32 in the shape of the granularity (per_column: per last-axis channel). An
// empty group gives 0, one that holds a NaN gives NaN. Operand kX, floating; may be pitched.
struct Reduce {
  static constexpr std::string_view kName = "reduce";
  Reduction reduction = Reduction::kAbsMax;
  Granularity granularity = Granularity::kPerTensor;

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f("reduction", self.reduction);
    f("granularity", self.granularity);
  }
  bool operator==(const Reduce&) const = default;
};
std::vector<TensorType> infer(const Reduce& op, std::span<const TypedOperand> in);

// Counts of |x| in fixed logarithmic bins, i32[kHistogramBins]: bin 0 below 2^-30, then 32 equal
// bins an octave, 2^-30 (1 + m/32) 2^e at bin 1 + 32 e + m; the last bin also takes all beyond
// 2^18. The same bins for every value: histograms of steps and runs add up.
struct Histogram {
  static constexpr std::string_view kName = "histogram";

  template <class Self, class F>
  static void fields(Self&, F&&) {}
  bool operator==(const Histogram&) const = default;
};
inline constexpr int64_t kHistogramBins = 1 + 48 * 32;
[[nodiscard]] int64_t histogram_bin(float x);
// Lower edge of a bin; of kHistogramBins the upper edge of the last.
[[nodiscard]] float histogram_edge(int64_t bin);
std::vector<TensorType> infer(const Histogram& op, std::span<const TypedOperand> in);

}  // namespace halftone::graph
