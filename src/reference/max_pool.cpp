#include <cmath>

#include "reference/ops.h"

namespace halftone::reference {

void run(const graph::MaxPool& op, const Call& call) {
  const TensorView& x_view = call.need(graph::Role::kX);
  const std::vector<float> x = load(x_view);
  const Shape& from = x_view.type.shape;
  const Shape& to = call.output().type.shape;
  const size_t channels = to_size(from[3]);
  std::vector<double> y(channels);
  for (int64_t row = 0; row < to.num_rows(); ++row) {
    const int64_t left = row % to[2] * op.stride;
    const int64_t top = row / to[2] % to[1] * op.stride;
    const int64_t n = row / (to[2] * to[1]);
    for (int64_t i = 0; i < op.size * op.size; ++i) {
      const int64_t h = top + i / op.size, w = left + i % op.size;
      const float* source = x.data() + to_size((n * from[1] + h) * from[2] + w) * channels;
      for (size_t c = 0; c < channels; ++c) {
        const auto value = static_cast<double>(source[c]);
        if (i == 0 || value > y[c] || std::isnan(value)) y[c] = value;
      }
    }
    store_row(y, call.output(), row);
  }
}

}  // namespace halftone::reference
