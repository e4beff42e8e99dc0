// How well a picture shows its prompt, by a CLIP model.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "halftone/log.h"

#include "backend/backend.h"
#include "metrics/image_metrics.h"

namespace halftone::workflow {

// 100 times the cosine of picture and text embedding, at least 0 (torchmetrics' CLIPScore of one
// pair); text beyond the model's positions (77) is cut, the end token stays last.
class ClipScorer {
 public:
  // Opens a Hugging Face CLIPModel's folder and checks configs, tokenizer and the names and shapes
  // of all tensors; weights are read by the first score. The device must outlive this. Throws
  // kNotFound, kCorruptFile or kUnsupported, naming file and key.
  ClipScorer(backend::Device& device, const std::filesystem::path& folder, Logger logger);
  ~ClipScorer();

  [[nodiscard]] double score(const metrics::RgbView& image, const std::string& prompt);
  // What the score is made of: [projection_dim] each, not normalised.
  [[nodiscard]] std::vector<float> embed(const metrics::RgbView& image);
  [[nodiscard]] std::vector<float> embed(const std::string& prompt);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace halftone::workflow
