// Descriptions of tensors for the copy engine.
#pragma once

#include <cstdint>
#include <span>

#include <cuda.h>

#include "backend/cuda/hopper/mma/element.h"

namespace halftone::backend::cuda::hopper {

// A box of a dense or pitched tensor. sizes and box: innermost first, in elements; pitches: bytes
// between neighbours of axes 1.. (multiples of 16). The box's row is at most `swizzle` bytes (128,
// 64, 32, or 0: not swizzled). Elements outside arrive as zero and are not written.
[[nodiscard]] CUtensorMap tiled_map(Element element, const void* data,
                                    std::span<const uint64_t> sizes,
                                    std::span<const uint64_t> pitches,
                                    std::span<const uint32_t> box, int swizzle);

// Pixels of an image [n, h, w, c] as a convolution's rows: a load brings `channels` of `pixels`
// output pixels, each `stride` apart, at one tap.
struct Im2colView {
  uint64_t n = 0;
  uint64_t h = 0;
  uint64_t w = 0;
  uint64_t c = 0;
  uint64_t pixel_pitch = 0;  // bytes
  uint64_t out_h = 0;
  uint64_t out_w = 0;
  int stride = 1;
  int pad = 0;
  uint32_t channels = 0;
  uint32_t pixels = 0;
};
[[nodiscard]] CUtensorMap im2col_map(Element element, const void* data, const Im2colView& view,
                                     int swizzle);

}  // namespace halftone::backend::cuda::hopper
