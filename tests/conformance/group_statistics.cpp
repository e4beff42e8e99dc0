#include "group_statistics.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

namespace halftone::conformance {
namespace {

struct Moments {
  double mean = 0.0;
  double squares = 0.0;  // of deviations from it
  double largest = 0.0;
};

// Of every piece of every group.
std::vector<Moments> pieces_of(const Tensor& x, int64_t groups) {
  const Tensor floats = x.to(DType::kF32);
  const auto values = floats.values<float>();
  const auto channels = static_cast<size_t>(x.shape()[-1]);
  const size_t width = channels / static_cast<size_t>(groups);
  const auto rows = static_cast<size_t>(graph::kRowsPerPiece);
  const size_t image = values.size() / static_cast<size_t>(x.shape()[0]);
  std::vector<Moments> pieces;
  for (size_t first = 0; first < values.size(); first += image) {
    for (size_t column = 0; column < channels; column += width) {
      for (size_t piece = first; piece < first + image; piece += rows * channels) {
        Moments m;
        const auto each = [&](auto f) {
          for (size_t row = 0; row < rows; ++row) {
            for (size_t c = column; c < column + width; ++c) {
              f(static_cast<double>(values[piece + row * channels + c]));
            }
          }
        };
        each([&](double v) {
          m.mean += v / static_cast<double>(rows * width);
          m.largest = std::max(m.largest, std::fabs(v));
        });
        each([&](double v) { m.squares += (v - m.mean) * (v - m.mean); });
        pieces.push_back(m);
      }
    }
  }
  return pieces;
}

}  // namespace

std::vector<float> group_statistics(const Tensor& x, int64_t groups) {
  std::vector<float> pairs;
  for (const Moments& m : pieces_of(x, groups)) {
    pairs.push_back(static_cast<float>(m.mean));
    pairs.push_back(static_cast<float>(m.squares));
  }
  return pairs;
}

// Both come from sums about one of the elements: what cancels is a few units of f32 of the largest
// deviation, or of a square of it.
void expect_group_statistics(const Tensor& y, const Tensor& statistics) {
  const std::vector<Moments> pieces = pieces_of(y, statistics.shape()[1]);
  const auto got = statistics.values<float>();
  ASSERT_EQ(got.size(), 2 * pieces.size());
  for (size_t i = 0; i < pieces.size(); ++i) {
    const Moments& m = pieces[i];
    const double off = std::ldexp(m.largest, -19);
    const auto squares = static_cast<double>(got[2 * i + 1]);
    EXPECT_NEAR(static_cast<double>(got[2 * i]), m.mean, off) << "piece " << i;
    EXPECT_NEAR(squares, m.squares, std::ldexp(m.squares, -14)) << "piece " << i;
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace halftone::conformance
