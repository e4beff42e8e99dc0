#include "metrics/image_metrics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "halftone/error.h"

namespace halftone::metrics {
namespace {

constexpr int kRadius = 5;
constexpr int kWindow = 2 * kRadius + 1;
constexpr double kSigma = 1.5;
constexpr double kC1 = (0.01 * 255) * (0.01 * 255);
constexpr double kC2 = (0.03 * 255) * (0.03 * 255);
constexpr std::array kScaleWeights = {0.0448, 0.2856, 0.3001, 0.2363, 0.1333};

void check_sizes(const RgbView& a, const RgbView& b) {
  for (const RgbView* view : {&a, &b}) {
    const auto wanted = static_cast<size_t>(view->width) * static_cast<size_t>(view->height) * 3;
    check_internal(view->width > 0 && view->height > 0 && view->rgb.size() == wanted,
                   "a picture has width * height * 3 bytes");
  }
  if (a.width == b.width && a.height == b.height) return;
  throw Error(Errc::kInvalidArgument,
              fmt::format("pictures of different sizes cannot be compared: got {}x{} and {}x{}",
                          a.width, a.height, b.width, b.height));
}

// One channel as real numbers, rows from the top.
struct Plane {
  int width = 0, height = 0;
  std::vector<double> values;

  Plane(int w, int h)
      : width(w), height(h), values(static_cast<size_t>(w) * static_cast<size_t>(h)) {}
  [[nodiscard]] const double* row(int y) const {
    return values.data() + static_cast<size_t>(y) * static_cast<size_t>(width);
  }
  [[nodiscard]] double* row(int y) {
    return values.data() + static_cast<size_t>(y) * static_cast<size_t>(width);
  }
};

Plane channel_of(const RgbView& picture, size_t channel) {
  Plane plane(picture.width, picture.height);
  for (size_t i = 0; i < plane.values.size(); ++i) {
    plane.values[i] = picture.rgb[i * 3 + channel];
  }
  return plane;
}

std::array<double, kWindow> gaussian() {
  std::array<double, kWindow> weights{};
  double sum = 0;
  for (int i = 0; i < kWindow; ++i) {
    const double d = (i - kRadius) / kSigma;
    sum += weights[static_cast<size_t>(i)] = std::exp(-0.5 * d * d);
  }
  for (double& w : weights) w /= sum;
  return weights;
}

// Weighted mean over the window, at the positions where it fits: 2 * kRadius smaller each way.
Plane blur(const Plane& in) {
  static const std::array<double, kWindow> kWeights = gaussian();
  Plane rows(in.width - 2 * kRadius, in.height);
  for (int y = 0; y < in.height; ++y) {
    const double* from = in.row(y);
    double* to = rows.row(y);
    for (int k = 0; k < kWindow; ++k) {
      const double w = kWeights[static_cast<size_t>(k)];
      for (int x = 0; x < rows.width; ++x) to[x] += w * from[x + k];
    }
  }
  Plane out(rows.width, in.height - 2 * kRadius);
  for (int y = 0; y < out.height; ++y) {
    double* to = out.row(y);
    for (int k = 0; k < kWindow; ++k) {
      const double w = kWeights[static_cast<size_t>(k)];
      const double* from = rows.row(y + k);
      for (int x = 0; x < out.width; ++x) to[x] += w * from[x];
    }
  }
  return out;
}

Plane product(const Plane& a, const Plane& b) {
  Plane out(a.width, a.height);
  for (size_t i = 0; i < out.values.size(); ++i) out.values[i] = a.values[i] * b.values[i];
  return out;
}

// Means over a channel of one scale.
struct Similarity {
  double full = 0;      // luminance * contrast * structure
  double contrast = 0;  // contrast * structure
};

Similarity similarity(const Plane& a, const Plane& b) {
  const Plane mean_a = blur(a), mean_b = blur(b);
  const Plane aa = blur(product(a, a)), bb = blur(product(b, b)), ab = blur(product(a, b));
  Similarity sum;
  for (size_t i = 0; i < mean_a.values.size(); ++i) {
    const double ma = mean_a.values[i], mb = mean_b.values[i];
    const double variance_a = std::max(0.0, aa.values[i] - ma * ma);
    const double variance_b = std::max(0.0, bb.values[i] - mb * mb);
    const double covariance = ab.values[i] - ma * mb;
    const double contrast = (2 * covariance + kC2) / (variance_a + variance_b + kC2);
    sum.contrast += contrast;
    sum.full += contrast * (2 * ma * mb + kC1) / (ma * ma + mb * mb + kC1);
  }
  const auto n = static_cast<double>(mean_a.values.size());
  return {.full = sum.full / n, .contrast = sum.contrast / n};
}

// Means of 2x2 blocks; an odd last row or column is left out.
Plane halve(const Plane& in) {
  Plane out(in.width / 2, in.height / 2);
  for (int y = 0; y < out.height; ++y) {
    const double* upper = in.row(2 * y);
    const double* lower = in.row(2 * y + 1);
    for (int x = 0; x < out.width; ++x) {
      const size_t left = 2 * static_cast<size_t>(x);
      out.row(y)[x] = (upper[left] + upper[left + 1] + lower[left] + lower[left + 1]) / 4;
    }
  }
  return out;
}

}  // namespace

double psnr(const RgbView& a, const RgbView& b) {
  check_sizes(a, b);
  uint64_t sum = 0;
  for (size_t i = 0; i < a.rgb.size(); ++i) {
    const int d = int{a.rgb[i]} - int{b.rgb[i]};
    sum += static_cast<uint64_t>(d * d);
  }
  if (sum == 0) return std::numeric_limits<double>::infinity();
  const double mse = static_cast<double>(sum) / static_cast<double>(a.rgb.size());
  return 10 * std::log10(255.0 * 255.0 / mse);
}

std::optional<double> ssim(const RgbView& a, const RgbView& b) {
  check_sizes(a, b);
  if (std::min(a.width, a.height) < kWindow) return std::nullopt;
  double sum = 0;
  for (size_t c = 0; c < 3; ++c) sum += similarity(channel_of(a, c), channel_of(b, c)).full;
  return sum / 3;
}

std::optional<double> ms_ssim(const RgbView& a, const RgbView& b) {
  check_sizes(a, b);
  constexpr auto kLast = kScaleWeights.size() - 1;
  if (std::min(a.width, a.height) < kWindow << kLast) return std::nullopt;
  std::array<double, kScaleWeights.size()> terms{};
  for (size_t c = 0; c < 3; ++c) {
    Plane x = channel_of(a, c), y = channel_of(b, c);
    for (size_t scale = 0; scale <= kLast; ++scale) {
      const Similarity found = similarity(x, y);
      terms[scale] += (scale == kLast ? found.full : found.contrast) / 3;
      if (scale == kLast) break;
      x = halve(x);
      y = halve(y);
    }
  }
  double result = 1;
  for (size_t scale = 0; scale <= kLast; ++scale) {
    result *= std::pow(std::max(0.0, terms[scale]), kScaleWeights[scale]);
  }
  return result;
}

std::vector<uint8_t> absolute_difference(const RgbView& a, const RgbView& b) {
  check_sizes(a, b);
  std::vector<uint8_t> out(a.rgb.size());
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<uint8_t>(std::abs(int{a.rgb[i]} - int{b.rgb[i]}));
  }
  return out;
}

}  // namespace halftone::metrics
