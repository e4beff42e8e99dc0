#include <cmath>

#include "reference/ops.h"

namespace halftone::reference {
namespace {

struct Statistics {
  double mean = 0.0;
  double inverse_deviation = 0.0;
};

// Two passes over `rows` pieces of `width` elements, `pitch` apart.
Statistics statistics(const float* x, size_t rows, size_t width, size_t pitch, double eps) {
  const auto count = static_cast<double>(rows * width);
  double sum = 0.0;
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < width; ++c) sum += static_cast<double>(x[r * pitch + c]);
  }
  const double mean = sum / count;
  double squares = 0.0;
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < width; ++c) {
      const double d = static_cast<double>(x[r * pitch + c]) - mean;
      squares += d * d;
    }
  }
  return {mean, 1.0 / std::sqrt(squares / count + eps)};
}

}  // namespace

void run(const graph::GroupNorm& op, const Call& call) {
  const std::vector<float> x = load(call.need(graph::Role::kX));
  const std::vector<float> gamma = load(call.need(graph::Role::kGamma));
  const std::vector<float> beta = load(call.need(graph::Role::kBeta));
  const Shape& shape = call.output().type.shape;
  if (shape.num_elements() == 0) return;
  const size_t channels = gamma.size();
  const size_t width = channels / to_size(op.groups);
  const size_t rows = to_size(shape.num_rows() / shape[0]);
  std::vector<double> y(x.size());
  for (size_t n = 0; n < to_size(shape[0]); ++n) {
    for (size_t first = 0; first < channels; first += width) {
      const float* from = x.data() + n * rows * channels;
      const Statistics s = statistics(from + first, rows, width, channels, op.eps);
      for (size_t r = 0; r < rows; ++r) {
        for (size_t c = first; c < first + width; ++c) {
          const double normal =
              (static_cast<double>(from[r * channels + c]) - s.mean) * s.inverse_deviation;
          y[(n * rows + r) * channels + c] = activate(
              op.activation, normal * static_cast<double>(gamma[c]) + static_cast<double>(beta[c]));
        }
      }
    }
  }
  if (graph::is_quantized(op.out)) return store_quantized(y, op.granularity, op.dynamic, call);
  store(y, call.output());
}

void run(const graph::LayerNorm& op, const Call& call) {
  const std::vector<float> x = load(call.need(graph::Role::kX));
  const std::vector<float> gamma = load(call.need(graph::Role::kGamma));
  const std::vector<float> beta = load(call.need(graph::Role::kBeta));
  const size_t width = gamma.size();
  std::vector<double> y(x.size());
  for (int64_t row = 0; row < call.output().type.shape.num_rows(); ++row) {
    const size_t first = to_size(row) * width;
    const float* from = x.data() + first;
    const Statistics s = statistics(from, 1, width, width, op.eps);
    for (size_t c = 0; c < width; ++c) {
      const double normal = (static_cast<double>(from[c]) - s.mean) * s.inverse_deviation;
      y[first + c] = normal * static_cast<double>(gamma[c]) + static_cast<double>(beta[c]);
    }
  }
  if (graph::is_quantized(op.out)) return store_quantized(y, op.granularity, op.dynamic, call);
  store(y, call.output());
}

}  // namespace halftone::reference
