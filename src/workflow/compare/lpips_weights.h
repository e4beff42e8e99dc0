// The files of an LPIPS network, seen alike.
#pragma once

#include <array>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "halftone/log.h"

#include "io/tensor_file.h"
#include "models/feature_net.h"
#include "tensor/tensor.h"

namespace halftone::workflow {

// Tensors "lpips/features.0.weight", ... as torchvision names them.
class LpipsWeights final : public WeightSource {
 public:
  // See LpipsScorer.
  LpipsWeights(const std::vector<std::filesystem::path>& paths, const Logger& logger);

  [[nodiscard]] const models::FeatureNet& net() const { return *net_; }
  // Output channels of each layer.
  [[nodiscard]] const std::vector<int64_t>& widths() const { return widths_; }
  // Of a stage: one a channel.
  [[nodiscard]] const std::vector<float>& linear(size_t stage) const { return linear_[stage]; }
  // The files, for messages.
  [[nodiscard]] std::string where() const;

  [[nodiscard]] bool contains(const std::string& name) const override;
  [[nodiscard]] TensorType type(const std::string& name) const override;
  void read(const std::string& name, const TensorType& type, std::byte* dst) const override;

 private:
  struct Source {
    size_t file;
    std::string name;  // there
    Shape shape;
  };
  void add(size_t file);
  void choose_net();
  void check_layers();
  void read_linear();
  // Of this shape, -1 standing for any extent.
  const Source& need(const std::string& name, const Shape& shape) const;

  std::vector<io::TensorFile> files_;
  std::map<std::string, Source> tensors_;  // "features.0.weight", "lin0"
  const models::FeatureNet* net_ = nullptr;
  std::vector<int64_t> widths_;
  std::array<std::vector<float>, models::kNumFeatureStages> linear_;
};

}  // namespace halftone::workflow
