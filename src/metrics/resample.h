// Pictures in another size, as Pillow makes them.
#pragma once

#include <cstdint>
#include <vector>

#include "metrics/image_metrics.h"

namespace halftone::metrics {

// PIL.Image.resize(BICUBIC): a = -0.5, the filter widened by the factor when making smaller
// (antialiasing), rows before columns, fixed point with 22 bits and 8-bit values in between. Equal
// to Pillow bit for bit, but where Pillow 13 takes columns first because that is less work: then
// noise differs by a few levels. Extents are 1 at least. Returns height * width * 3 values.
[[nodiscard]] std::vector<uint8_t> resize_bicubic(const RgbView& image, int width, int height);

}  // namespace halftone::metrics
