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

// A text encoder's output (f32[texts, ..., channels]) as a part of a denoiser's input, whose parts
// are joined along the channels in the order of the list.
struct TextPart {
  size_t encoder;  // index in Family::text_encoders
  std::string_view output, input;
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
  std::span<const TextPart> text_parts;
  // What else conditions: `sizes` is [uncond, cond] or [cond]; each is repeated `batch` times, in
  // this order.
  Conditioning (*condition)(std::span<const SizeConditioning> sizes, int64_t batch);
};

[[nodiscard]] std::span<const Family* const> families();
// Throws kUnsupported naming the known ones.
[[nodiscard]] const Family& find_family(std::string_view name);

}  // namespace halftone::pipeline
