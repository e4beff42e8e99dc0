// How different two pictures look: LPIPS, the distance of their features in a network.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "halftone/log.h"

#include "backend/backend.h"
#include "metrics/image_metrics.h"

namespace halftone::workflow {

// LPIPS version 0.1 of richzhang/PerceptualSimilarity: features of five stages, each position's
// scaled to length 1, squared differences weighted by channel, mean over the positions, sum of the
// stages. 0 for equal pictures.
class LpipsScorer {
 public:
  // `paths`: files or folders of .safetensors, .pth, .pt and .bin files that together hold one
  // network's tensors: torchvision's AlexNet or VGG16 ("features.0.weight", ...) and lpips' linear
  // layers ("lin0.model.1.weight", ...), or the state dict of a whole lpips.LPIPS. The weights give
  // the widths. Names and shapes are checked; the network's weights are read by the first score.
  // The device must outlive this. Throws kNotFound, kCorruptFile, kUnsupported or kInvalidArgument,
  // naming file and tensor.
  LpipsScorer(backend::Device& device, const std::vector<std::filesystem::path>& paths,
              const Logger& logger);
  ~LpipsScorer();

  // Of pictures of one size; nullopt when they are too small for the network (alex 31, vgg 16
  // pixels).
  [[nodiscard]] std::optional<double> distance(const metrics::RgbView& a,
                                               const metrics::RgbView& b);
  // "alex" or "vgg".
  [[nodiscard]] std::string_view network() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace halftone::workflow
