// Statistics of calibration taps: exact extremes, sums of squares and histograms. Rows are read as
// f32 and shared out in blocks; the blocks' results are joined in order, so that every number of
// threads gives the same.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "backend/cpu/call.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"

namespace halftone::backend::cpu {
namespace {

using graph::Granularity;
using graph::Reduction;

constexpr int64_t kBlockElements = 1 << 16;
constexpr size_t kLanes = 16;

struct Blocks {
  int64_t rows, count;
  explicit Blocks(const Rows& x)
      : rows(std::max<int64_t>(1, kBlockElements / std::max<int64_t>(x.size, 1))),
        count(divide_up(x.count, rows)) {}
};

// Joins one value into an extreme; a NaN wins.
float join(Reduction reduction, float a, float b) {
  if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<float>::quiet_NaN();
  return reduction == Reduction::kMin ? std::min(a, b) : std::max(a, b);
}

// min, max and max |x| of a row; NaN when one element is.
float row_extreme(Reduction reduction, const float* x, size_t n) {
  std::array<float, kLanes> low, high;
  std::array<uint32_t, kLanes> nans{};
  low.fill(std::numeric_limits<float>::infinity());
  high.fill(-std::numeric_limits<float>::infinity());
  const auto take = [&](size_t lane, float v) {
    low[lane] = v < low[lane] ? v : low[lane];
    high[lane] = v > high[lane] ? v : high[lane];
    nans[lane] |= v != v ? 1U : 0U;
  };
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) take(lane, x[i + lane]);
  }
  for (; i < n; ++i) take(0, x[i]);
  for (const uint32_t nan : nans) {
    if (nan != 0) return std::numeric_limits<float>::quiet_NaN();
  }
  const float least = *std::ranges::min_element(low);
  const float most = *std::ranges::max_element(high);
  if (reduction == Reduction::kMin) return least;
  return reduction == Reduction::kMax ? most : std::max(std::fabs(least), std::fabs(most));
}

double row_squares(const float* x, size_t n) {
  std::array<double, kLanes> sums{};
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const auto v = static_cast<double>(x[i + lane]);
      sums[lane] += v * v;
    }
  }
  for (; i < n; ++i) sums[0] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  double sum = 0;
  for (const double s : sums) sum += s;
  return sum;
}

void column_amax(const float* x, float* amax, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    const float v = std::fabs(x[i]);
    amax[i] = v > amax[i] || v != v ? v : amax[i];  // a NaN stays: nothing is larger
  }
}

Support supports_reduce(const graph::OpDesc& desc, const DeviceInfo& info) {
  const auto& op = desc.as<graph::Reduce>();
  const bool columns =
      op.granularity == Granularity::kPerColumn && op.reduction == Reduction::kAbsMax;
  if (!columns && op.granularity != Granularity::kPerTensor) {
    return Support::no("reduces tensors, and columns to their largest magnitude");
  }
  return supports_vector_ops(desc, info);
}

class ReduceLaunch final : public Launch {
 public:
  ReduceLaunch(const graph::OpDesc& desc, const DeviceInfo& info, const Operands& operands)
      : op_(desc.as<graph::Reduce>()),
        ops_(*vector_ops(info)),
        threads_(info.num_units),
        x_(operands.inputs[0]),
        y_(operands.outputs[0].as<float>()),
        width_(op_.granularity == Granularity::kPerColumn ? static_cast<size_t>(x_.size) : 1),
        blocks_(x_),
        partial_(static_cast<size_t>(blocks_.count) * width_) {}

  void enqueue(Stream& /*stream*/) const override {
    if (x_.count == 0 || x_.size == 0) {
      std::fill_n(y_, width_, 0.0F);
      return;
    }
    parallel_for(threads_, blocks_.count, [this](int64_t block, int) { run(block); });
    for (size_t c = 0; c < width_; ++c) {
      double result = partial_[c];
      for (size_t b = 1; b < static_cast<size_t>(blocks_.count); ++b) {
        const double next = partial_[b * width_ + c];
        result = op_.reduction == Reduction::kSumSquares
                     ? result + next
                     : static_cast<double>(join(op_.reduction, static_cast<float>(result),
                                                static_cast<float>(next)));
      }
      y_[c] = static_cast<float>(result);
    }
  }

 private:
  void run(int64_t block) const {
    const auto size = static_cast<size_t>(x_.size);
    const bool by_column = op_.granularity == Granularity::kPerColumn;
    std::vector<float> values(size), columns(by_column ? size : 0, 0.0F);
    double result = 0;
    const int64_t first = block * blocks_.rows;
    for (int64_t row = first; row < std::min(x_.count, first + blocks_.rows); ++row) {
      ops_.load(x_.dtype, x_.at(row), values.data(), x_.size);
      if (by_column) {
        column_amax(values.data(), columns.data(), size);
      } else if (op_.reduction == Reduction::kSumSquares) {
        result += row_squares(values.data(), size);
      } else {
        const float one = row_extreme(op_.reduction, values.data(), size);
        result = row == first
                     ? static_cast<double>(one)
                     : static_cast<double>(join(op_.reduction, static_cast<float>(result), one));
      }
    }
    double* to = partial_.data() + static_cast<size_t>(block) * width_;
    if (by_column) {
      std::ranges::copy(columns, to);
    } else {
      *to = result;
    }
  }

  graph::Reduce op_;
  const VectorOps& ops_;
  int threads_;
  Rows x_;
  float* y_;
  size_t width_;
  Blocks blocks_;
  mutable std::vector<double> partial_;  // one launch runs at a time
};

std::unique_ptr<Launch> prepare_reduce(const graph::OpDesc& desc, const DeviceInfo& info,
                                       Config /*config*/, const Operands& operands) {
  return std::make_unique<ReduceLaunch>(desc, info, operands);
}

Support supports_histogram(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (!is_vector_type(desc.inputs[0].type.dtype)) return Support::no("reads f32, f16 and bf16");
  return vector_ops(info) != nullptr ? Support::yes() : Support::no("needs AVX2");
}

std::unique_ptr<Launch> prepare_histogram(const graph::OpDesc& /*desc*/, const DeviceInfo& info,
                                          Config /*config*/, const Operands& operands) {
  const VectorOps* ops = vector_ops(info);
  const Rows x(operands.inputs[0]);
  auto* counts = operands.outputs[0].as<int32_t>();
  return make_launch([ops, x, counts, threads = info.num_units] {
    const Blocks blocks(x);
    constexpr auto kBins = static_cast<size_t>(graph::kHistogramBins);
    // One table a task of blocks; sums of integers do not depend on their order.
    const int64_t tasks = std::min<int64_t>(threads, blocks.count);
    std::vector<int32_t> partial(static_cast<size_t>(tasks) * kBins, 0);
    parallel_for(threads, tasks, [&](int64_t task, int) {
      std::vector<float> values(static_cast<size_t>(x.size));
      int32_t* to = partial.data() + static_cast<size_t>(task) * kBins;
      for (int64_t row = task; row < x.count; row += tasks) {
        ops->load(x.dtype, x.at(row), values.data(), x.size);
        for (const float v : values) ++to[graph::histogram_bin(v)];
      }
    });
    std::fill_n(counts, kBins, 0);
    for (size_t i = 0; i < partial.size(); ++i) counts[i % kBins] += partial[i];
  });
}

}  // namespace

const Kernel reduce_blocks{
    plain_kernel("cpu.reduce.blocks", graph::OpKind::kReduce, supports_reduce, prepare_reduce)};
const Kernel histogram_tables{plain_kernel("cpu.histogram.tables", graph::OpKind::kHistogram,
                                           supports_histogram, prepare_histogram)};

}  // namespace halftone::backend::cpu
