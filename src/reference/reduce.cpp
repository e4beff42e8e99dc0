#include <algorithm>
#include <cmath>

#include "reference/ops.h"

namespace halftone::reference {

void run(const graph::Reduce& op, const Call& call) {
  const TensorView& x_view = call.need(graph::Role::kX);
  const Shape& shape = x_view.type.shape;
  const std::vector<float> x = load(x_view);
  const size_t width = to_size(shape.row_size());
  const size_t groups = to_size(call.output().type.shape.num_elements());
  std::vector<double> y(groups, 0.0);
  std::vector<bool> seen(groups, false);
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t group = op.granularity == graph::Granularity::kPerColumn
                             ? i % width
                             : scale_index(op.granularity, shape, static_cast<int64_t>(i / width));
    const auto value = static_cast<double>(x[i]);
    if (op.reduction == graph::Reduction::kSumSquares) {
      y[group] += value * value;
      continue;
    }
    const double candidate = op.reduction == graph::Reduction::kAbsMax ? std::fabs(value) : value;
    const bool better =
        op.reduction == graph::Reduction::kMin ? candidate < y[group] : candidate > y[group];
    if (!seen[group] || better || std::isnan(value)) y[group] = candidate;
    seen[group] = true;
  }
  store(y, call.output());
}

void run(const graph::Histogram& /*op*/, const Call& call) {
  int32_t* counts = call.output().as<int32_t>();
  std::fill_n(counts, graph::kHistogramBins, 0);
  for (const float x : load(call.need(graph::Role::kX))) ++counts[graph::histogram_bin(x)];
}

}  // namespace halftone::reference
