// Pictures in another size, as Pillow makes them.
#pragma once

#include <cstdint>
#include <vector>

#include "metrics/image_metrics.h"

namespace halftone::metrics {

// PIL.Image.resize(BICUBIC): a = -0.5, the filter widened by the factor when making smaller
// (antialiasing), rows before columns, fixed point with 22 bits and 8-bit values in between. Equal
// to Pillow bit for bit, but for some tall pictures, where Pillow 13 takes columns first: seven of
// noise differed by 5 to 11 levels at most. Extents are 1 at least. Returns height * width * 3
// values.
[[nodiscard]] std::vector<uint8_t> resize_bicubic(const RgbView& image, int width, int height);

}  // namespace halftone::metrics
