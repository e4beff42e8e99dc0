#include "amax.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "graph/ops/quantize.h"

namespace halftone::conformance {
namespace {

// Calls f(line, column, magnitude) for every element that is a number.
template <class F>
void each_magnitude(const Tensor& x, F f) {
  const Tensor floats = x.to(DType::kF32);
  const auto values = floats.values<float>();
  const auto width = static_cast<size_t>(x.shape().row_size());
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(values[i])) continue;
    f(i / width / static_cast<size_t>(graph::kAmaxRows), i % width, std::fabs(values[i]));
  }
}

}  // namespace

std::vector<float> dealt_amax(const Tensor& x) {
  const Shape shape = graph::amax_type(x.shape()).shape;
  const auto parts = static_cast<size_t>(shape[1]);
  std::vector<float> amax(static_cast<size_t>(shape.num_elements()), 0.0F);
  each_magnitude(x, [&](size_t line, size_t column, float magnitude) {
    float& part = amax[line * parts + column % parts];
    part = std::max(part, magnitude);
  });
  return amax;
}

void expect_amax(const Tensor& y, const Tensor& amax) {
  ASSERT_EQ(amax.type(), graph::amax_type(y.shape()));
  const auto lines = static_cast<size_t>(amax.shape()[0]);
  std::vector<float> largest(lines, 0.0F);
  each_magnitude(y, [&](size_t line, size_t /*column*/, float magnitude) {
    largest[line] = std::max(largest[line], magnitude);
  });
  const auto got = amax.values<float>();
  for (size_t line = 0; line < lines; ++line) {
    const auto parts = got.subspan(line * got.size() / lines, got.size() / lines);
    // A part that nobody wrote holds a NaN.
    EXPECT_TRUE(std::ranges::all_of(parts, [&](float part) { return part <= largest[line]; }))
        << "line " << line;
    if (!parts.empty()) {
      EXPECT_EQ(std::ranges::max(parts), largest[line]) << "line " << line;
    }
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace halftone::conformance
