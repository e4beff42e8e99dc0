// Pictures that tests make by a formula in integers, as scripts/golden/pictures.py does.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "metrics/image_metrics.h"

namespace halftone::metrics {

struct Picture {
  int width, height;
  std::vector<uint8_t> rgb;
  [[nodiscard]] RgbView view() const { return {.width = width, .height = height, .rgb = rgb}; }
};

// A folded ramp with blocks, plus noise in [-noise, noise].
[[nodiscard]] inline Picture make_pattern(int width, int height, int noise, uint32_t seed) {
  Picture picture{width, height, {}};
  uint32_t state = seed;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < 3; ++c) {
        const int ramp = (3 * x + 2 * y + 80 * c) % 512;
        int value = std::min(ramp, 511 - ramp);
        if ((x / 16 + y / 24 + c) % 3 == 0) value = 255 - value / 2;
        state = state * 1664525U + 1013904223U;
        if (noise > 0) {
          value += static_cast<int>((state >> 16) % static_cast<uint32_t>(2 * noise + 1)) - noise;
        }
        picture.rgb.push_back(static_cast<uint8_t>(std::clamp(value, 0, 255)));
      }
    }
  }
  return picture;
}

}  // namespace halftone::metrics
