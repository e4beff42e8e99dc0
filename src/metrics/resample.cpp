#include "metrics/resample.h"

#include <algorithm>
#include <cmath>

#include "halftone/error.h"

namespace halftone::metrics {
namespace {

constexpr int kPrecisionBits = 32 - 8 - 2;
constexpr double kSupport = 2.0;  // of the cubic, in source pixels

double cubic(double x) {
  constexpr double kA = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((kA + 2.0) * x - (kA + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * kA;
  return 0.0;
}

// What an output position is the weighted sum of.
struct Taps {
  int first = 0;
  std::vector<int> weights;
};

std::vector<Taps> taps_of(int from, int to) {
  const double scale = static_cast<double>(from) / to;
  const double filter_scale = std::max(scale, 1.0);
  const double support = kSupport * filter_scale;
  std::vector<Taps> all;
  std::vector<double> exact;
  for (int i = 0; i < to; ++i) {
    const double center = (i + 0.5) * scale;
    const int first = std::max(static_cast<int>(std::floor(center - support + 0.5)), 0);
    const int last = std::min(static_cast<int>(std::floor(center + support + 0.5)), from);
    exact.clear();
    double sum = 0;
    for (int x = first; x < last; ++x) {
      exact.push_back(cubic((x - center + 0.5) * (1.0 / filter_scale)));
      sum += exact.back();
    }
    Taps taps{.first = first, .weights = {}};
    for (double weight : exact) {
      if (sum != 0.0) weight /= sum;
      const double fixed = weight * (1 << kPrecisionBits);
      taps.weights.push_back(static_cast<int>(std::trunc(weight < 0 ? -0.5 + fixed : 0.5 + fixed)));
    }
    all.push_back(std::move(taps));
  }
  return all;
}

// Along one axis: `lines` lines apart by `line_stride`, elements of a line by `stride`; three
// channels lie beside each other. The result has `out_line_stride` and `out_stride`.
struct Layout {
  size_t lines, line_stride, stride, out_line_stride, out_stride;
};
void resample(const std::vector<Taps>& taps, const Layout& l, const uint8_t* in, uint8_t* out) {
  for (size_t line = 0; line < l.lines; ++line) {
    for (size_t i = 0; i < taps.size(); ++i) {
      for (size_t c = 0; c < 3; ++c) {
        const uint8_t* x =
            in + line * l.line_stride + static_cast<size_t>(taps[i].first) * l.stride + c;
        int sum = 1 << (kPrecisionBits - 1);
        for (const int weight : taps[i].weights) {
          sum += *x * weight;
          x += l.stride;
        }
        out[line * l.out_line_stride + i * l.out_stride + c] =
            static_cast<uint8_t>(std::clamp(sum >> kPrecisionBits, 0, 255));
      }
    }
  }
}

}  // namespace

std::vector<uint8_t> resize_bicubic(const RgbView& image, int width, int height) {
  check_internal(image.width > 0 && image.height > 0 && width > 0 && height > 0,
                 "pictures to resize have pixels");
  std::vector<uint8_t> rows(image.rgb.begin(), image.rgb.end());
  const auto in_width = static_cast<size_t>(image.width), out_width = static_cast<size_t>(width);
  if (image.width != width) {
    rows.resize(static_cast<size_t>(image.height) * out_width * 3);
    resample(taps_of(image.width, width),
             {.lines = static_cast<size_t>(image.height),
              .line_stride = in_width * 3,
              .stride = 3,
              .out_line_stride = out_width * 3,
              .out_stride = 3},
             image.rgb.data(), rows.data());
  }
  if (image.height == height) return rows;
  std::vector<uint8_t> result(static_cast<size_t>(height) * out_width * 3);
  resample(taps_of(image.height, height),
           {.lines = out_width,
            .line_stride = 3,
            .stride = out_width * 3,
            .out_line_stride = 3,
            .out_stride = out_width * 3},
           rows.data(), result.data());
  return result;
}

}  // namespace halftone::metrics
