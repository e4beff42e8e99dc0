// Likeness of two pictures of one size: 8-bit RGB, reference first. The order of the arguments does
// not change the result.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace halftone::metrics {

// Borrowed pixels: height * width * 3, rows from the top.
struct RgbView {
  int width = 0, height = 0;
  std::span<const uint8_t> rgb;
};

// 10 log10(255^2 / MSE) over all pixels and channels, in dB; infinite for equal pictures.
// Throws kInvalidArgument when the sizes differ (all functions here do).
[[nodiscard]] double psnr(const RgbView& a, const RgbView& b);

// Structural similarity (Wang et al. 2004): Gaussian window 11x11, sigma 1.5, K1 0.01, K2 0.03,
// population covariances, mean over the positions where the window fits and over the channels.
// nullopt when a side is shorter than the window.
[[nodiscard]] std::optional<double> ssim(const RgbView& a, const RgbView& b);

// Multi-scale structural similarity (Wang et al. 2003), five scales, negative terms cut to 0.
// nullopt when a side is shorter than 176 pixels: the smallest scale would not hold the window.
[[nodiscard]] std::optional<double> ms_ssim(const RgbView& a, const RgbView& b);

// |a - b| of each value, height * width * 3.
[[nodiscard]] std::vector<uint8_t> absolute_difference(const RgbView& a, const RgbView& b);

}  // namespace halftone::metrics
