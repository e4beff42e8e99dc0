// StableDiffusionXLPipeline and its image-to-image form: two text encoders joined along the
// channels, the second one's pooled output and six numbers about the picture's size beside them.
#include <algorithm>
#include <array>

#include "pipeline/family.h"

namespace halftone::pipeline {

extern const Family sdxl;

namespace {

constexpr std::array<std::string_view, 2> kEncoders = {"text_encoder", "text_encoder_2"};
constexpr std::array<std::string_view, 2> kLabels = {"clip", "clip2"};

constexpr std::array kTextParts = {TextPart{0, "hidden", "encoder_hidden_states"},
                                   TextPart{1, "hidden", "encoder_hidden_states"},
                                   TextPart{1, "pooled", "text_embeds"}};

Conditioning condition(std::span<const SizeConditioning> sizes, int64_t batch) {
  Tensor ids({DType::kF32, {static_cast<int64_t>(sizes.size()) * batch, 6}});
  auto out = ids.values<float>().begin();
  for (const SizeConditioning& size : sizes) {
    for (int64_t i = 0; i < batch; ++i) {
      for (const auto& pair : {size.original, size.crop_top_left, size.target}) {
        out = std::ranges::copy(pair, out).out;
      }
    }
  }
  Conditioning inputs;
  inputs.emplace_back("time_ids", std::move(ids));
  return inputs;
}

}  // namespace

constexpr Family sdxl = {.name = "sdxl",
                         .text_encoders = kEncoders,
                         .text_labels = kLabels,
                         .denoiser_label = "unetxl",
                         .default_steps = 50,
                         .default_guidance = 5.0,
                         .default_strength = 0.3,
                         .may_zero_negative = true,
                         .text_parts = kTextParts,
                         .condition = condition};

}  // namespace halftone::pipeline
