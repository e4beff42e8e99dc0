#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// y[..., o] = act(sum_i x[..., i] * weight[o, i] + bias[o] + row_add[n, o]) + residual[..., o].
// With geglu the weight has 2*o rows: y = h[..., :o] * gelu_erf(h[..., o:]) (+ residual); act is
// none. Operands: kX [..., in], kWeight [out, in], optional kBias [out], kRowAdd [n, out] (n =
// first extent of x), kResidual (shape of y), and for quantized forms kXScale (f32[1] or one a row
// of x), kWScale, kYScale: types, arithmetic and `out` as in graph/ops/quantize.h.
// `statistics_groups` > 0: a second output, group statistics of y (graph/ops/group_norm.h), which
// is floating.
// `amax`: a second output, amax of y (graph/ops/quantize.h), which is floating. Of these further
// outputs there is one at most.
//
// Two halves of a layer norm between linears, for operands that are not quantized:
//   row_statistics: a second output describes y's rows as they were rounded, f32 [rows, slots, 2]
//   (rows = all of y's axes but the last): of each kStatisticsColumns columns, the last ones may be
//   fewer, the mean and the sum of squared deviations from it.
//   kRowStatistics, such a description of x's rows, and kColumnSum f32[weight.shape[0]]: the sum of
//   products s of row m becomes (s - mean[m] * column_sum[o]) / sqrt(var[m] + eps), var biased.
//   With operands made by NormWeight (graph/ops/norm_weight.h) that is the linear of the layer norm
//   of x.
struct Linear {
  static constexpr std::string_view kName = "linear";
  Activation activation = Activation::kNone;
  bool geglu = false;
  DType out = DType::kF32;
  bool row_statistics = false;
  double eps = 0.0;  // of kRowStatistics
  int64_t statistics_groups = 0;
  bool amax = false;

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f("activation", self.activation);
    f("geglu", self.geglu);
    f("out", self.out, DType::kF32);
    f("row_statistics", self.row_statistics, false);
    f("eps", self.eps, 0.0);
    f("statistics_groups", self.statistics_groups, int64_t{0});
    f("amax", self.amax, false);
  }
  bool operator==(const Linear&) const = default;
};
std::vector<TensorType> infer(const Linear& op, std::span<const TypedOperand> in);

inline constexpr int64_t kStatisticsColumns = 80;
// Of rows of these.
[[nodiscard]] TensorType row_statistics_type(const Shape& rows);

}  // namespace halftone::graph
