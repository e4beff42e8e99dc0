// Enlargement by 2 joined with a 3x3 convolution: sums of its weight, and its results interleaved
// (graph/ops/subpixel.h).
#include <cstring>
#include <vector>

#include "backend/cpu/call.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"

namespace halftone::backend::cpu {
namespace {

Support supports_weight(const graph::OpDesc& /*desc*/, const DeviceInfo& /*info*/) {
  return Support::yes();
}

// Row [p, q, out, a, b] of the result: the sum of one to four taps of output `out`.
void sum_taps(const Rows& x, const Rows& y, int64_t row, std::vector<double>& sum) {
  const int64_t out = x.count / 9;
  const int64_t o = row / 4 % out;
  const auto parity = static_cast<int>(row / 4 / out);
  const graph::SubpixelTaps rows = graph::subpixel_taps(parity / 2, static_cast<int>(row / 2 % 2));
  const graph::SubpixelTaps cols = graph::subpixel_taps(parity % 2, static_cast<int>(row % 2));
  sum.assign(static_cast<size_t>(x.size), 0.0);
  for (int r = rows.first; r <= rows.last; ++r) {
    for (int s = cols.first; s <= cols.last; ++s) {
      const auto* tap = reinterpret_cast<const float*>(x.at((o * 3 + r) * 3 + s));
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += static_cast<double>(tap[i]);
    }
  }
  auto* to = reinterpret_cast<float*>(y.at(row));
  for (size_t i = 0; i < sum.size(); ++i) to[i] = static_cast<float>(sum[i]);
}

std::unique_ptr<Launch> prepare_weight(const graph::OpDesc& /*desc*/, const DeviceInfo& info,
                                       Config /*config*/, const Operands& operands) {
  const Rows x(operands.inputs[0]);
  const Rows y(operands.outputs[0]);
  return make_launch([=, threads = info.num_units] {
    constexpr int64_t kRowsATask = 64;
    parallel_for(threads, divide_up(y.count, kRowsATask), [&](int64_t task, int) {
      std::vector<double> sum;
      const int64_t last = std::min(y.count, (task + 1) * kRowsATask);
      for (int64_t row = task * kRowsATask; row < last; ++row) sum_taps(x, y, row, sum);
    });
  });
}

Support supports_merge(const graph::OpDesc& desc, const DeviceInfo& /*info*/) {
  if (desc.inputs[0].type.dtype == desc.output().dtype) return Support::yes();
  return Support::no("copies only; element types differ");
}

std::unique_ptr<Launch> prepare_merge(const graph::OpDesc& desc, const DeviceInfo& info,
                                      Config /*config*/, const Operands& operands) {
  const Shape from = operands.inputs[0].type.shape;
  const Shape to = desc.output().shape;
  const Rows x(operands.inputs[0]);
  const Rows y(operands.outputs[0]);
  return make_launch([=, threads = info.num_units] {
    const auto bytes = static_cast<size_t>(y.size) * size_of(y.dtype);
    parallel_for(threads, to[0] * to[1], [&](int64_t line, int) {
      const int64_t h = line % to[1];
      const int64_t n = line / to[1];
      const int64_t p = h % 2;
      const int64_t first = (n * from[1] + h / 2 + p) * from[2];
      for (int64_t w = 0; w < to[2]; ++w) {
        const int64_t q = w % 2;
        std::memcpy(y.at(line * to[2] + w), x.at(first + w / 2 + q, (2 * p + q) * y.size), bytes);
      }
    });
  });
}

}  // namespace

const Kernel subpixel_weight_sum = plain_kernel(
    "cpu.subpixel_weight.sum", graph::OpKind::kSubpixelWeight, supports_weight, prepare_weight);
const Kernel subpixel_merge_copy = plain_kernel(
    "cpu.subpixel_merge.copy", graph::OpKind::kSubpixelMerge, supports_merge, prepare_merge);

}  // namespace halftone::backend::cpu
