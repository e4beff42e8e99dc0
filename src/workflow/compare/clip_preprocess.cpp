#include "workflow/compare/clip_preprocess.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>

#include "halftone/error.h"

#include "io/image.h"
#include "metrics/resample.h"
#include "models/config_reader.h"

namespace halftone::workflow {
namespace {

constexpr int64_t kMaxEdge = 4096;
constexpr int64_t kBicubic = 3;  // PIL.Image.Resampling

// An extent: a number, or an object that holds it under `key`.
int64_t edge(models::ConfigReader& json, std::string_view name, std::string_view key,
             int64_t fallback) {
  const std::optional<JsonView> value = json.find(name);
  if (!value) return fallback;
  if (!value->value().is_object()) return value->integer(1, kMaxEdge);
  const std::optional<JsonView> member = value->find(key);
  if (!member) {
    json.unsupported(name, fmt::format("got an object without '{}', which alone is read", key));
  }
  return member->integer(1, kMaxEdge);
}

std::array<double, 3> triple(models::ConfigReader& json, std::string_view name,
                             const std::array<double, 3>& fallback) {
  const std::optional<JsonView> value = json.find(name);
  if (!value) return fallback;
  const std::vector<double> list = value->numbers();
  if (list.size() != 3) {
    json.fail(name, fmt::format("got {} numbers, wanted 3, one a channel", list.size()));
  }
  return {list[0], list[1], list[2]};
}

}  // namespace

ClipPreprocessor::ClipPreprocessor(const std::optional<JsonView>& config, int64_t image_size)
    : shortest_edge_(image_size), crop_(image_size) {
  if (!config) return;
  models::ConfigReader json(*config);
  for (const std::string_view step :
       {"do_resize", "do_center_crop", "do_rescale", "do_normalize"}) {
    json.expect(step, {true});
  }
  json.expect("resample", {kBicubic});
  shortest_edge_ = edge(json, "size", "shortest_edge", shortest_edge_);
  for (const std::string_view side : {"height", "width"}) {
    crop_ = edge(json, "crop_size", side, crop_);
    if (crop_ != image_size) {
      json.fail("crop_size",
                fmt::format("got {}, wanted {}, the image_size of config.json", crop_, image_size));
    }
  }
  if (shortest_edge_ < crop_) {
    json.fail("size", fmt::format("got {}, wanted at least crop_size {}", shortest_edge_, crop_));
  }
  rescale_ = json.positive("rescale_factor", rescale_);
  mean_ = triple(json, "image_mean", mean_);
  deviation_ = triple(json, "image_std", deviation_);
  for (const double value : deviation_) {
    if (value <= 0) json.fail("image_std", fmt::format("got {}, wanted numbers above 0", value));
  }
}

std::vector<uint8_t> ClipPreprocessor::crop(const metrics::RgbView& image) const {
  const int64_t shorter = std::min(image.width, image.height);
  const int64_t longer = std::max(image.width, image.height) * shortest_edge_ / shorter;
  if (longer > io::kMaxImagePixels / shortest_edge_) {
    throw Error(Errc::kInvalidArgument,
                fmt::format("CLIP score: got a picture of {}x{}, which is too long to be resized "
                            "to a shorter side of {}",
                            image.width, image.height, shortest_edge_));
  }
  const bool is_wide = image.width >= image.height;
  const int64_t width = is_wide ? longer : shortest_edge_;
  const int64_t height = is_wide ? shortest_edge_ : longer;
  const std::vector<uint8_t> resized =
      metrics::resize_bicubic(image, static_cast<int>(width), static_cast<int>(height));
  const int64_t top = (height - crop_) / 2, left = (width - crop_) / 2;
  std::vector<uint8_t> result;
  result.reserve(static_cast<size_t>(crop_ * crop_ * 3));
  for (int64_t y = 0; y < crop_; ++y) {
    const auto row = resized.begin() + ((top + y) * width + left) * 3;
    result.insert(result.end(), row, row + crop_ * 3);
  }
  return result;
}

Tensor ClipPreprocessor::operator()(const metrics::RgbView& image) const {
  const std::vector<uint8_t> pixels = crop(image);
  Tensor input({DType::kF32, {1, crop_, crop_, 3}});
  const std::span<float> values = input.values<float>();
  for (size_t i = 0; i < pixels.size(); ++i) {
    const auto scaled = static_cast<float>(pixels[i] * rescale_);
    values[i] = (scaled - static_cast<float>(mean_[i % 3])) / static_cast<float>(deviation_[i % 3]);
  }
  return input;
}

}  // namespace halftone::workflow
