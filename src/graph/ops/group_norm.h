#pragma once

#include "graph/ops/op.h"

namespace halftone::graph {

// Group normalisation over x [n, ..., c]: statistics per (n, group of c/groups channels) over all
// inner positions, in fp32 at least; y = act((x - mean) / sqrt(var + eps) * gamma[c] + beta[c]),
// biased variance. Operands kX, kGamma, kBeta, and kYScale for
// a static quantized output (graph/ops/quantize.h).
//
// Group statistics of x (kGroupStatistics, optional; what makes x may make them): f32 [n, groups,
// pieces, 2]. Piece i stands for rows [64 i, 64 i + 64) of an image, a row being one inner position
// with the group's channels: their mean and the sum of their squared deviations from it, of x's
// elements as they are stored. With them y is normalised by the statistics merged from the pieces,
// and x is read once.
//
// x may be given as two operands kX that differ in their last axis only: their join along it, the
// first one's channels first (without statistics, which are of one tensor). With `joins` what was
// read is a further output (kJoined, the last): x, joined, in its own type or, where `joined` is i8
// or f8e4m3, as Quantize makes it with the scale kXScale (f32[1], static; graph/ops/quantize.h).
inline constexpr int64_t kRowsPerPiece = 64;

// Statistics of y; throws unless an image of y has a whole number of pieces (one at least), and its
// channels divide into the groups.
[[nodiscard]] TensorType group_statistics_type(std::string_view op, const TensorType& y,
                                               int64_t groups);

struct GroupNorm {
  static constexpr std::string_view kName = "group_norm";
  int64_t groups = 32;
  double eps = 1e-5;
  Activation activation = Activation::kNone;
  DType out = DType::kF32;  // i8 or f8e4m3: ends in Quantize; else y has x's type
  Granularity granularity = Granularity::kPerTensor;  // of that quantization
  bool dynamic = false;
  bool joins = false;
  DType joined = DType::kF32;  // i8 or f8e4m3: codes; else x's type

  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f("groups", self.groups);
    f("eps", self.eps);
    f("activation", self.activation);
    f("out", self.out, DType::kF32);
    f("granularity", self.granularity, Granularity::kPerTensor);
    f("dynamic", self.dynamic, false);
    f("joins", self.joins, false);
    f("joined", self.joined, DType::kF32);
  }
  bool operator==(const GroupNorm&) const = default;
};
std::vector<TensorType> infer(const GroupNorm& op, std::span<const TypedOperand> in);
// What a group norm with these operands normalises.
[[nodiscard]] TensorType group_norm_input(std::span<const TypedOperand> in);

}  // namespace halftone::graph
