#include "reference/ops.h"

namespace halftone::reference {

void run(const graph::SubpixelWeight& /*op*/, const Call& call) {
  const TensorView& x_view = call.need(graph::Role::kX);
  const std::vector<float> x = load(x_view);
  const size_t out = to_size(x_view.type.shape[0]);
  const size_t in = to_size(x_view.type.shape[3]);
  std::vector<double> y(in);
  for (size_t row = 0; row < 16 * out; ++row) {  // [p, q, out, a, b]
    const auto a = static_cast<int>(row / 2 % 2);
    const auto b = static_cast<int>(row % 2);
    const size_t o = row / 4 % out;
    const auto parity = static_cast<int>(row / 4 / out);
    const graph::SubpixelTaps rows = graph::subpixel_taps(parity / 2, a);
    const graph::SubpixelTaps cols = graph::subpixel_taps(parity % 2, b);
    y.assign(in, 0.0);
    for (int r = rows.first; r <= rows.last; ++r) {
      for (int s = cols.first; s <= cols.last; ++s) {
        const float* tap = x.data() + ((o * 3 + to_size(r)) * 3 + to_size(s)) * in;
        for (size_t i = 0; i < in; ++i) y[i] += static_cast<double>(tap[i]);
      }
    }
    store_row(y, call.output(), static_cast<int64_t>(row));
  }
}

void run(const graph::SubpixelMerge& /*op*/, const Call& call) {
  const TensorView& x_view = call.need(graph::Role::kX);
  const std::vector<float> x = load_codes(x_view, x_view.type.shape.row_size());
  const Shape& from = x_view.type.shape;
  const Shape& to = call.output().type.shape;
  const size_t channels = to_size(to[3]);
  std::vector<double> y(channels);
  for (int64_t row = 0; row < to.num_rows(); ++row) {
    const int64_t w = row % to[2];
    const int64_t h = row / to[2] % to[1];
    const int64_t n = row / (to[2] * to[1]);
    const int64_t p = h % 2;
    const int64_t q = w % 2;
    const int64_t source = (n * from[1] + h / 2 + p) * from[2] + w / 2 + q;
    const float* part = x.data() + to_size(source) * 4 * channels + to_size(2 * p + q) * channels;
    y.assign(part, part + channels);
    store_row(y, call.output(), row);
  }
}

}  // namespace halftone::reference
