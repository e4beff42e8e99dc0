#include <cmath>

#include <fmt/format.h>

#include "halftone/error.h"

#include "reference/ops.h"

namespace halftone::reference {
namespace {

size_t checked_index(int32_t index, int64_t rows, std::string_view op) {
  if (index < 0 || index >= rows) {
    throw Error(Errc::kInvalidArgument,
                fmt::format("{}: index {} lies outside [0, {})", op, index, rows));
  }
  return static_cast<size_t>(index);
}

std::vector<double> row_of(const std::vector<float>& table, size_t row, size_t width) {
  const auto first = table.begin() + static_cast<std::ptrdiff_t>(row * width);
  return {first, first + static_cast<std::ptrdiff_t>(width)};
}

}  // namespace

void run(const graph::Embedding& /*op*/, const Call& call) {
  const std::vector<int32_t> indices = load_indices(call.need(graph::Role::kIndex));
  const TensorView& table = call.need(graph::Role::kWeight);
  const std::vector<float> weight = load(table);
  for (size_t i = 0; i < indices.size(); ++i) {
    const size_t row = checked_index(indices[i], table.type.shape[0], "embedding");
    store_row(row_of(weight, row, to_size(table.type.shape[1])), call.output(),
              static_cast<int64_t>(i));
  }
}

void run(const graph::SelectRow& /*op*/, const Call& call) {
  const TensorView& x_view = call.need(graph::Role::kX);
  const std::vector<float> x = load(x_view);
  const std::vector<int32_t> indices = load_indices(call.need(graph::Role::kIndex));
  const int64_t tokens = x_view.type.shape[1];
  for (size_t n = 0; n < indices.size(); ++n) {
    const size_t row = n * to_size(tokens) + checked_index(indices[n], tokens, "select_row");
    store_row(row_of(x, row, to_size(x_view.type.shape[2])), call.output(),
              static_cast<int64_t>(n));
  }
}

void run(const graph::Sinusoidal& op, const Call& call) {
  const std::vector<float> x = load(call.need(graph::Role::kX));
  const size_t half = to_size(op.dim / 2);
  const size_t sin_at = op.flip_sin_to_cos ? half : 0;
  const size_t cos_at = op.flip_sin_to_cos ? 0 : half;
  std::vector<double> y(2 * half);
  for (size_t row = 0; row < x.size(); ++row) {
    for (size_t i = 0; i < half; ++i) {
      const double exponent = -std::log(op.max_period) * static_cast<double>(i) /
                              (static_cast<double>(half) - op.freq_shift);
      const double angle = static_cast<double>(x[row]) * std::exp(exponent);
      y[sin_at + i] = std::sin(angle);
      y[cos_at + i] = std::cos(angle);
    }
    store_row(y, call.output(), static_cast<int64_t>(row));
  }
}

}  // namespace halftone::reference
