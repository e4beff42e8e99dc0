#include "pipeline/latents.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <thread>
#include <vector>

namespace halftone::pipeline {

Tensor nchw_to_nhwc(const Tensor& x) {
  const Shape& s = x.shape();
  Tensor result({DType::kF32, {s[0], s[2], s[3], s[1]}});
  const auto channels = static_cast<size_t>(s[1]);
  const auto pixels = static_cast<size_t>(s[2] * s[3]);
  const auto in = x.values<float>();
  auto out = result.values<float>();
  for (size_t n = 0; n < static_cast<size_t>(s[0]); ++n) {
    for (size_t p = 0; p < pixels; ++p) {
      for (size_t c = 0; c < channels; ++c) {
        out[(n * pixels + p) * channels + c] = in[(n * channels + c) * pixels + p];
      }
    }
  }
  return result;
}

Tensor nhwc_to_nchw(const Tensor& x) {
  const Shape& s = x.shape();
  Tensor result({DType::kF32, {s[0], s[3], s[1], s[2]}});
  const auto channels = static_cast<size_t>(s[3]);
  const auto pixels = static_cast<size_t>(s[1] * s[2]);
  const auto in = x.values<float>();
  auto out = result.values<float>();
  for (size_t n = 0; n < static_cast<size_t>(s[0]); ++n) {
    for (size_t c = 0; c < channels; ++c) {
      for (size_t p = 0; p < pixels; ++p) {
        out[(n * channels + c) * pixels + p] = in[(n * pixels + p) * channels + c];
      }
    }
  }
  return result;
}

BatchNoise::BatchNoise(Rng rng, std::span<const uint64_t> seeds) {
  for (const uint64_t seed : seeds) {
    generators_.push_back(rng == Rng::kCpu ? NoiseGenerator::torch_cpu(seed)
                                           : NoiseGenerator::torch_cuda(seed));
  }
}

Tensor BatchNoise::draw_nchw(int64_t channels, int64_t height, int64_t width) {
  Tensor result({DType::kF32, {static_cast<int64_t>(generators_.size()), channels, height, width}});
  const auto count = static_cast<size_t>(channels * height * width);
  const std::span<float> values = result.values<float>();
  // Each image has a generator of its own, so images draw side by side.
  const size_t images = generators_.size();
  const size_t num_threads =
      std::clamp<size_t>(std::thread::hardware_concurrency(), 1, std::max<size_t>(images, 1));
  const auto draw_every = [&](size_t first) {
    for (size_t i = first; i < images; i += num_threads) {
      generators_[i].randn(values.subspan(i * count, count));
    }
  };
  std::vector<std::jthread> others;
  for (size_t t = 1; t < num_threads; ++t) others.emplace_back(draw_every, t);
  draw_every(0);
  others.clear();  // joins
  return result;
}

bool all_finite(std::span<const float> values) {
  // Without a way out, so that it runs eight at a time.
  constexpr uint32_t kExponent = 0x7f800000U;
  uint32_t bad = 0;
  for (const float v : values) {
    bad |= (std::bit_cast<uint32_t>(v) & kExponent) == kExponent ? 1U : 0U;
  }
  return bad == 0;
}

}  // namespace halftone::pipeline
