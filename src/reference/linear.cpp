#include <algorithm>
#include <cmath>

#include "reference/ops.h"

namespace halftone::reference {
namespace {

constexpr auto kSlot = static_cast<size_t>(graph::kStatisticsColumns);

// The description of y's rows that graph/ops/linear.h defines.
void store_statistics(const TensorView& y, const TensorView& statistics) {
  const std::vector<float> values = load(y);
  const size_t width = to_size(y.type.shape.row_size());
  std::vector<double> pairs;
  for (size_t row = 0; row < to_size(y.type.shape.num_rows()); ++row) {
    for (size_t first = 0; first < width; first += kSlot) {
      const auto slot =
          std::span(values).subspan(row * width + first, std::min(kSlot, width - first));
      double sum = 0.0;
      for (const float v : slot) sum += static_cast<double>(v);
      const double mean = sum / static_cast<double>(slot.size());
      double squares = 0.0;
      for (const float v : slot) squares += std::pow(static_cast<double>(v) - mean, 2.0);
      pairs.insert(pairs.end(), {mean, squares});
    }
  }
  store(pairs, statistics);
}

// Makes sums of products those of normalized rows.
class RowNorm {
 public:
  RowNorm(const graph::Linear& op, const Call& call)
      : width_(to_size(call.need(graph::Role::kX).type.shape.row_size())), eps_(op.eps) {
    const TensorView* statistics = call.find(graph::Role::kRowStatistics);
    if (statistics == nullptr) return;
    pairs_ = load(*statistics);
    sums_ = load(call.need(graph::Role::kColumnSum));
  }

  void apply(std::span<double> acc, int64_t row) const {
    if (sums_.empty()) return;
    const size_t slots = (width_ + kSlot - 1) / kSlot;
    const float* pair = pairs_.data() + to_size(row) * slots * 2;
    const auto columns = [&](size_t slot) {
      return static_cast<double>(std::min(kSlot, width_ - slot * kSlot));
    };
    double mean = 0.0;
    for (size_t i = 0; i < slots; ++i) mean += static_cast<double>(pair[2 * i]) * columns(i);
    mean /= static_cast<double>(width_);
    double squares = 0.0;
    for (size_t i = 0; i < slots; ++i) {
      const double d = static_cast<double>(pair[2 * i]) - mean;
      squares += static_cast<double>(pair[2 * i + 1]) + d * d * columns(i);
    }
    const double scale = 1.0 / std::sqrt(squares / static_cast<double>(width_) + eps_);
    for (size_t o = 0; o < acc.size(); ++o) {
      acc[o] = (acc[o] - mean * static_cast<double>(sums_[o])) * scale;
    }
  }

 private:
  size_t width_;
  double eps_;
  std::vector<float> pairs_, sums_;
};

}  // namespace

void run(const graph::Linear& op, const Call& call) {
  const TensorView& x_view = call.need(graph::Role::kX);
  const TensorView& weight_view = call.need(graph::Role::kWeight);
  const size_t in = to_size(x_view.type.shape[-1]);
  const size_t rows_out = to_size(weight_view.type.shape[0]);
  const std::vector<float> weight = load_codes(weight_view, x_view.type.shape[-1]);
  std::vector<double> transposed(weight.size());
  for (size_t o = 0; o < rows_out; ++o) {
    for (size_t i = 0; i < in; ++i)
      transposed[i * rows_out + o] = static_cast<double>(weight[o * in + i]);
  }
  const std::vector<float> x = load_codes(x_view, x_view.type.shape[-1]);
  const Epilogue epilogue(call);
  const RowNorm norm(op, call);
  const int64_t rows = x_view.type.shape.num_rows();
  const int64_t rows_per_batch =
      x_view.type.shape.rank() == 1 || rows == 0 ? 1 : rows / x_view.type.shape[0];
  std::vector<double> acc(rows_out);
  for (int64_t row = 0; row < rows; ++row) {
    acc.assign(rows_out, 0.0);
    multiply_add(acc, std::span(x).subspan(to_size(row) * in, in), transposed.data());
    norm.apply(acc, row);
    epilogue.finish(acc, op.activation, op.geglu, row / rows_per_batch, row);
  }
  if (op.row_statistics) store_statistics(call.output(), call.outputs[1]);
  store_group_statistics(call);
  store_amax(call);
}

void run(const graph::NormWeight& /*op*/, const Call& call) {
  const TensorView& weight_view = call.need(graph::Role::kWeight);
  const std::vector<float> weight = load(weight_view);
  const std::vector<float> gamma = load(call.need(graph::Role::kGamma));
  const std::vector<float> beta = load(call.need(graph::Role::kBeta));
  const TensorView* bias = call.find(graph::Role::kBias);
  std::vector<double> scaled(weight.size());
  for (size_t i = 0; i < weight.size(); ++i) {
    scaled[i] = static_cast<double>(weight[i]) * static_cast<double>(gamma[i % gamma.size()]);
  }
  store(scaled, call.outputs[0]);
  const std::vector<float> rounded = load(call.outputs[0]);
  const size_t out = to_size(weight_view.type.shape[0]);
  std::vector<double> sums(out, 0.0);
  std::vector<double> shift(out, 0.0);
  if (bias != nullptr) std::ranges::copy(load(*bias), shift.begin());
  for (size_t i = 0; i < weight.size(); ++i) {
    const size_t column = i % gamma.size();
    sums[i / gamma.size()] += static_cast<double>(rounded[i]);
    shift[i / gamma.size()] += static_cast<double>(weight[i]) * static_cast<double>(beta[column]);
  }
  store(sums, call.outputs[1]);
  store(shift, call.outputs[2]);
}

}  // namespace halftone::reference
