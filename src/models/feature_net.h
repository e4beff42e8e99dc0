// The convolutional parts of torchvision's AlexNet and VGG16, whose features LPIPS compares.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"

namespace halftone::models {

// A convolution followed by ReLU.
struct FeatureLayer {
  int64_t index;  // in torchvision's `features`: the tensors "features.<index>.weight" and ".bias"
  int64_t kernel, stride, padding;
  bool pooled;      // max pooling comes before it
  bool ends_stage;  // its result is one of the five features
};

// What a network is but for its widths, which its weights give.
struct FeatureNet {
  std::string_view name;  // as lpips has it: "alex", "vgg"
  int64_t pool_size, pool_stride;
  std::vector<FeatureLayer> layers;
};
inline constexpr size_t kNumFeatureStages = 5;

[[nodiscard]] const std::vector<FeatureNet>& feature_nets();

// Whether a picture of this size has features in every stage.
[[nodiscard]] bool is_large_enough(const FeatureNet& net, int64_t height, int64_t width);

// Input "pixels" f32[1, height, width, 3], scaled as the network wants it; outputs "stage_0" to
// "stage_4". `widths`: output channels of each layer. All kStep, in f32.
[[nodiscard]] graph::Graph build_features(const std::string& component, const FeatureNet& net,
                                          const std::vector<int64_t>& widths, int64_t height,
                                          int64_t width);

}  // namespace halftone::models
