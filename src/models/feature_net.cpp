#include "models/feature_net.h"

#include <algorithm>

#include <fmt/format.h>

#include "models/builder.h"

namespace halftone::models {
namespace {

FeatureLayer conv3x3_layer(int64_t index, bool pooled, bool ends_stage) {
  return {.index = index,
          .kernel = 3,
          .stride = 1,
          .padding = 1,
          .pooled = pooled,
          .ends_stage = ends_stage};
}

}  // namespace

const std::vector<FeatureNet>& feature_nets() {
  static const std::vector<FeatureNet> kNets = {
      {"alex",
       3,
       2,
       {{0, 11, 4, 2, false, true},
        {3, 5, 1, 2, true, true},
        conv3x3_layer(6, true, true),
        conv3x3_layer(8, false, true),
        conv3x3_layer(10, false, true)}},
      {"vgg",
       2,
       2,
       {conv3x3_layer(0, false, false), conv3x3_layer(2, false, true),
        conv3x3_layer(5, true, false), conv3x3_layer(7, false, true),
        conv3x3_layer(10, true, false), conv3x3_layer(12, false, false),
        conv3x3_layer(14, false, true), conv3x3_layer(17, true, false),
        conv3x3_layer(19, false, false), conv3x3_layer(21, false, true),
        conv3x3_layer(24, true, false), conv3x3_layer(26, false, false),
        conv3x3_layer(28, false, true)}}};
  return kNets;
}

bool is_large_enough(const FeatureNet& net, int64_t height, int64_t width) {
  int64_t side = std::min(height, width);
  for (const FeatureLayer& layer : net.layers) {
    if (layer.pooled) {
      if (side < net.pool_size) return false;
      side = (side - net.pool_size) / net.pool_stride + 1;
    }
    side += 2 * layer.padding - layer.kernel;
    if (side < 0) return false;
    side = side / layer.stride + 1;
  }
  return true;
}

graph::Graph build_features(const std::string& component, const FeatureNet& net,
                            const std::vector<int64_t>& widths, int64_t height, int64_t width) {
  Builder b(component, DType::kF32);
  ValueId x = b.input("pixels", {DType::kF32, {1, height, width, 3}}, Rate::kStep);
  size_t stage = 0;
  for (size_t i = 0; i < net.layers.size(); ++i) {
    const FeatureLayer& layer = net.layers[i];
    if (layer.pooled) {
      x = b.op(graph::MaxPool{.size = net.pool_size, .stride = net.pool_stride},
               {{graph::Role::kX, x}});
    }
    x = b.conv2d(fmt::format("features.{}", layer.index), x,
                 {.channels = widths[i],
                  .kernel = layer.kernel,
                  .stride = layer.stride,
                  .pad_begin = layer.padding,
                  .pad_end = layer.padding});
    x = b.affine(x, {.low = 0.0});  // ReLU
    if (layer.ends_stage) b.output(fmt::format("stage_{}", stage++), x);
  }
  return b.take();
}

}  // namespace halftone::models
