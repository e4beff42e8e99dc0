#include <algorithm>

#include "reference/ops.h"

namespace halftone::reference {

void run(const graph::Unary& op, const Call& call) {
  const std::vector<float> x = load(call.need(graph::Role::kX));
  std::vector<double> y(x.size());
  std::ranges::transform(x, y.begin(),
                         [&](float v) { return activate(op.activation, static_cast<double>(v)); });
  store(y, call.output());
}

void run(const graph::Affine& op, const Call& call) {
  const std::vector<float> x = load(call.need(graph::Role::kX));
  std::vector<double> y(x.size());
  std::ranges::transform(x, y.begin(), [&](float v) {
    return std::clamp(op.scale * static_cast<double>(v) + op.shift, op.low, op.high);
  });
  store(y, call.output());
}

void run(const graph::Add& op, const Call& call) {
  const std::vector<float> a = load(call.inputs[0]);
  const std::vector<float> b = load(call.inputs[1]);
  if (a.empty()) return;
  const Shape& shape = call.output().type.shape;
  const size_t width = to_size(shape.row_size());
  const bool per_batch_row = !op.broadcast_batch && b.size() != a.size();
  const size_t rows_per_batch = per_batch_row ? to_size(shape.num_rows() / shape[0]) : 1;
  const size_t b_rows = b.size() / width;
  std::vector<double> y(a.size());
  for (size_t i = 0; i < a.size(); ++i) {
    const size_t row = i / width;
    const size_t b_row = per_batch_row ? row / rows_per_batch : row % b_rows;
    y[i] = static_cast<double>(a[i]) + static_cast<double>(b[b_row * width + i % width]);
  }
  store(y, call.output());
}

void run(const graph::Geglu& /*op*/, const Call& call) {
  const std::vector<float> x = load(call.need(graph::Role::kX));
  const size_t width = to_size(call.output().type.shape.row_size());
  std::vector<double> y(width);
  for (int64_t row = 0; row < call.output().type.shape.num_rows(); ++row) {
    const float* from = x.data() + to_size(row) * 2 * width;
    for (size_t c = 0; c < width; ++c) {
      y[c] = static_cast<double>(from[c]) *
             activate(graph::Activation::kGelu, static_cast<double>(from[width + c]));
    }
    store_row(y, call.output(), row);
  }
}

void run(const graph::Cast& /*op*/, const Call& call) {
  const std::vector<float> x = load(call.need(graph::Role::kX));
  store(std::vector<double>(x.begin(), x.end()), call.output());
}

}  // namespace halftone::reference
