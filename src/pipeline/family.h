// What distinguishes the model families on the run path: which text encoders, how their outputs
// become conditioning, and the defaults of diffusers' pipelines.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tensor/tensor.h"

namespace halftone::pipeline {

// Of one text encoder for one text: hidden f32[1, tokens, channels], pooled f32[1, channels] (empty
// when the encoder has none).
struct TextOutputs {
  Tensor hidden, pooled;
};

// One prompt as the denoiser reads it: context f32[1, tokens, channels], pooled f32[1, channels].
struct PromptEmbeds {
  Tensor context, pooled;
};

// Micro-conditioning of SDXL, in pixels.
struct SizeConditioning {
  std::array<float, 2> original{}, crop_top_left{}, target{};  // (height, width), (top, left)
};

// Inputs of the denoiser by name.
using Conditioning = std::vector<std::pair<std::string, Tensor>>;

struct Family {
  std::string_view name;
  std::span<const std::string_view> text_encoders;  // components, in order
  // Rows of the timing table: one a text encoder, then the denoiser.
  std::span<const std::string_view> text_labels;
  std::string_view denoiser_label;
  int default_steps;
  double default_guidance;
  double default_strength;  // image to image
  // An absent negative prompt becomes zeros when the model's force_zeros_for_empty_prompt says so.
  bool may_zero_negative;
  PromptEmbeds (*embed)(std::span<const TextOutputs> encoders);
  // `prompts` is [uncond, cond] or [cond], `sizes` one for each; each is repeated `batch` times, in
  // this order.
  Conditioning (*condition)(std::span<const PromptEmbeds* const> prompts,
                            std::span<const SizeConditioning> sizes, int64_t batch);
};

[[nodiscard]] std::span<const Family* const> families();
// Throws kUnsupported naming the known ones.
[[nodiscard]] const Family& find_family(std::string_view name);

// rows f32[1, ...] one after another, each repeated: f32[rows.size() * batch, ...].
[[nodiscard]] Tensor stack(std::span<const Tensor* const> rows, int64_t batch);

}  // namespace halftone::pipeline
