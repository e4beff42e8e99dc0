// What CLIPProcessor does to a picture before CLIP sees it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "base/json.h"
#include "metrics/image_metrics.h"
#include "tensor/tensor.h"

namespace halftone::workflow {

class ClipPreprocessor {
 public:
  // `config`: preprocessor_config.json; without it, and for keys that it lacks, CLIP's values.
  // `image_size`: what the model takes. Throws kCorruptFile or kUnsupported naming the key.
  ClipPreprocessor(const std::optional<JsonView>& config, int64_t image_size);

  // Shortest side resized (bicubic) to the wanted size, centre cropped: 8 bits, [crop, crop, 3].
  [[nodiscard]] std::vector<uint8_t> crop(const metrics::RgbView& image) const;
  // The same, rescaled and normalised: f32[1, image_size, image_size, 3].
  [[nodiscard]] Tensor operator()(const metrics::RgbView& image) const;

 private:
  int64_t shortest_edge_, crop_;
  double rescale_ = 1.0 / 255.0;
  std::array<double, 3> mean_ = {0.48145466, 0.4578275, 0.40821073};
  std::array<double, 3> deviation_ = {0.26862954, 0.26130258, 0.27577711};
};

}  // namespace halftone::workflow
