#include <algorithm>
#include <cmath>

#include "reference/ops.h"
#include "tensor/quantized.h"

namespace halftone::reference {
namespace {

struct Statistics {
  double mean = 0.0;
  double inverse_deviation = 0.0;
};

struct Moments {
  double mean = 0.0;
  double squares = 0.0;  // sum of squared deviations from the mean
};

// Two passes over `rows` pieces of `width` elements, `pitch` apart.
Moments moments(const float* x, size_t rows, size_t width, size_t pitch) {
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
  return {mean, squares};
}

Statistics statistics(const float* x, size_t rows, size_t width, size_t pitch, double eps) {
  const Moments m = moments(x, rows, width, pitch);
  return {m.mean, 1.0 / std::sqrt(m.squares / static_cast<double>(rows * width) + eps)};
}

// The pieces of a group, `count` elements each, merged about their common mean.
Statistics merged(std::span<const float> pieces, double count, double eps) {
  double sum = 0.0;
  double num_pieces = 0.0;
  for (size_t i = 0; i < pieces.size(); i += 2, ++num_pieces) sum += static_cast<double>(pieces[i]);
  const double mean = sum / num_pieces;
  double squares = 0.0;
  for (size_t i = 0; i < pieces.size(); i += 2) {
    const double d = static_cast<double>(pieces[i]) - mean;
    squares += static_cast<double>(pieces[i + 1]) + count * d * d;
  }
  return {mean, 1.0 / std::sqrt(squares / (count * num_pieces) + eps)};
}

// All of x, a row of one part before the same row of the other.
std::vector<float> joined_input(const Call& call) {
  std::vector<std::vector<float>> parts;
  std::vector<size_t> widths;
  for (size_t i = 0; i < call.inputs.size(); ++i) {
    if (call.desc.inputs[i].role != graph::Role::kX) continue;
    parts.push_back(load(call.inputs[i]));
    widths.push_back(to_size(call.inputs[i].type.shape[-1]));
  }
  std::vector<float> x;
  for (size_t row = 0; row < to_size(call.output().type.shape.num_rows()); ++row) {
    for (size_t part = 0; part < parts.size(); ++part) {
      const auto from = parts[part].begin() + static_cast<std::ptrdiff_t>(row * widths[part]);
      x.insert(x.end(), from, from + static_cast<std::ptrdiff_t>(widths[part]));
    }
  }
  return x;
}

// What was read, as a further output.
void store_joined(const graph::GroupNorm& op, std::span<const float> x, const Call& call) {
  const TensorView& view = call.outputs.back();
  if (!graph::is_quantized(op.joined)) return store(std::vector<double>(x.begin(), x.end()), view);
  const float inverse = inverse_scale(load(call.need(graph::Role::kXScale)).front());
  const size_t width = to_size(view.type.shape[-1]);
  for (int64_t row = 0; row < view.type.shape.num_rows(); ++row) {
    Quantizer{}.store_row(x.subspan(to_size(row) * width, width), inverse, view, row);
  }
}

}  // namespace

void store_group_statistics(const Call& call) {
  const auto at = std::ranges::find(call.desc.outputs, graph::Role::kGroupStatistics,
                                    &graph::TypedOperand::role);
  if (at == call.desc.outputs.end() || at->type.shape.num_elements() == 0) return;
  const std::vector<float> y = load(call.output());
  const size_t channels = to_size(call.output().type.shape[-1]);
  const size_t width = channels / to_size(at->type.shape[1]);
  const auto rows = to_size(graph::kRowsPerPiece);
  const size_t pieces = to_size(at->type.shape[2]);
  std::vector<double> statistics;
  for (size_t n = 0; n < to_size(at->type.shape[0]); ++n) {
    for (size_t first = 0; first < channels; first += width) {
      for (size_t piece = 0; piece < pieces; ++piece) {
        const float* from = y.data() + (n * pieces + piece) * rows * channels + first;
        const Moments m = moments(from, rows, width, channels);
        statistics.insert(statistics.end(), {m.mean, m.squares});
      }
    }
  }
  store(statistics, call.outputs[static_cast<size_t>(at - call.desc.outputs.begin())]);
}

void run(const graph::GroupNorm& op, const Call& call) {
  const std::vector<float> x = joined_input(call);
  if (op.joins) store_joined(op, x, call);
  const std::vector<float> gamma = load(call.need(graph::Role::kGamma));
  const std::vector<float> beta = load(call.need(graph::Role::kBeta));
  std::vector<float> pieces;  // of x, where somebody measured it
  if (const TensorView* view = call.find(graph::Role::kGroupStatistics)) pieces = load(*view);
  const Shape& shape = call.output().type.shape;
  const size_t channels = gamma.size();
  const size_t width = channels / to_size(op.groups);
  const size_t rows = to_size(shape.num_rows() / std::max<int64_t>(shape[0], 1));
  std::vector<double> y(x.size());
  for (size_t n = 0; n < to_size(shape[0]); ++n) {
    for (size_t first = 0; first < channels; first += width) {
      const float* from = x.data() + n * rows * channels;
      const size_t group = n * to_size(op.groups) + first / width;
      const size_t size = pieces.size() / to_size(shape[0] * op.groups);
      const Statistics s =
          pieces.empty()
              ? statistics(from + first, rows, width, channels, op.eps)
              : merged(std::span(pieces).subspan(group * size, size),
                       static_cast<double>(to_size(graph::kRowsPerPiece) * width), op.eps);
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
