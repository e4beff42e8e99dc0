// Latents between torch's memory order (NCHW, in which noise is drawn and files are kept) and the
// plans' (NHWC).
#pragma once

#include <span>
#include <vector>

#include "halftone/options.h"

#include "base/rng.h"
#include "tensor/tensor.h"

namespace halftone::pipeline {

// f32 of rank 4.
[[nodiscard]] Tensor nchw_to_nhwc(const Tensor& x);
[[nodiscard]] Tensor nhwc_to_nchw(const Tensor& x);

// One generator an image, as diffusers draws for a list of generators: every draw of a batch is one
// torch.randn([1, c, h, w]) from each.
class BatchNoise {
 public:
  BatchNoise(Rng rng, std::span<const uint64_t> seeds);
  // f32[n, c, h, w]; n = number of seeds.
  [[nodiscard]] Tensor draw_nchw(int64_t channels, int64_t height, int64_t width);

 private:
  std::vector<NoiseGenerator> generators_;
};

[[nodiscard]] bool all_finite(std::span<const float> values);

}  // namespace halftone::pipeline
