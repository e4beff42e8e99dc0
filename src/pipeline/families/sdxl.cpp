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

PromptEmbeds embed(std::span<const TextOutputs> encoders) {
  const Tensor& first = encoders[0].hidden;
  const Tensor& second = encoders[1].hidden;
  const int64_t tokens = first.shape()[1];
  const auto a = static_cast<size_t>(first.shape()[2]);
  const auto b = static_cast<size_t>(second.shape()[2]);
  PromptEmbeds embeds{.context = Tensor({DType::kF32, {1, tokens, static_cast<int64_t>(a + b)}}),
                      .pooled = encoders[1].pooled.clone()};
  auto out = embeds.context.values<float>().begin();
  for (size_t token = 0; token < static_cast<size_t>(tokens); ++token) {
    const auto x = first.values<float>().subspan(token * a, a);
    const auto y = second.values<float>().subspan(token * b, b);
    out = std::copy(x.begin(), x.end(), out);
    out = std::copy(y.begin(), y.end(), out);
  }
  return embeds;
}

Tensor time_ids(const SizeConditioning& size) {
  const std::array<float, 6> ids = {size.original[0],      size.original[1], size.crop_top_left[0],
                                    size.crop_top_left[1], size.target[0],   size.target[1]};
  return Tensor::from({1, 6}, ids);
}

Conditioning condition(std::span<const PromptEmbeds* const> prompts,
                       std::span<const SizeConditioning> sizes, int64_t batch) {
  std::vector<Tensor> ids;
  for (const SizeConditioning& size : sizes) ids.push_back(time_ids(size));
  std::vector<const Tensor*> contexts, pooled, id_rows;
  for (size_t i = 0; i < prompts.size(); ++i) {
    contexts.push_back(&prompts[i]->context);
    pooled.push_back(&prompts[i]->pooled);
    id_rows.push_back(&ids[i]);
  }
  Conditioning inputs;
  inputs.emplace_back("encoder_hidden_states", stack(contexts, batch));
  inputs.emplace_back("text_embeds", stack(pooled, batch));
  inputs.emplace_back("time_ids", stack(id_rows, batch));
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
                         .embed = embed,
                         .condition = condition};

}  // namespace halftone::pipeline
