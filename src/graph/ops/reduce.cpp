#include "graph/ops/reduce.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include <fmt/format.h>

#include "graph/ops/quantize.h"

namespace halftone::graph {
namespace {
constexpr int64_t kLowestExponent = -30;
}

std::vector<TensorType> infer(const Reduce& op, std::span<const TypedOperand> in) {
  const TensorType& x = need_operand(in, Role::kX, "reduce");
  require(is_floating(x.dtype) && x.shape.rank() >= 1, "reduce", "wants a floating tensor");
  require(op.granularity != Granularity::kUniform, "reduce", "uniform is for weights' scales");
  require(op.granularity != Granularity::kPerChannel || x.shape.rank() >= 2, "reduce",
          fmt::format("no statistic for each index of the first axis of {}", to_string(x)));
  return {{DType::kF32, scale_shape(op.granularity, x.shape)}};
}

int64_t histogram_bin(float x) {
  const uint32_t magnitude = std::bit_cast<uint32_t>(x) & 0x7fffffffU;
  const auto step = static_cast<int64_t>(magnitude >> 18);  // exponent and five mantissa bits
  return std::clamp<int64_t>(step - (127 + kLowestExponent) * 32 + 1, 0, kHistogramBins - 1);
}

float histogram_edge(int64_t bin) {
  if (bin <= 0) return 0.0F;
  const int64_t octave = (bin - 1) / 32;
  const auto fraction = static_cast<float>((bin - 1) % 32);
  return std::ldexp(1.0F + fraction / 32.0F, static_cast<int>(octave + kLowestExponent));
}

std::vector<TensorType> infer(const Histogram& /*op*/, std::span<const TypedOperand> in) {
  const TensorType& x = need_operand(in, Role::kX, "histogram");
  require(is_floating(x.dtype) && x.shape.rank() >= 1, "histogram", "wants a floating tensor");
  return {{DType::kI32, {kHistogramBins}}};
}

}  // namespace halftone::graph
