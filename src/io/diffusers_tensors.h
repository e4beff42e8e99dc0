// Names and shapes of a component's tensors, from its config.json, as diffusers and transformers
// have them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "tensor/tensor.h"

namespace halftone::io {

enum class Init { kNormal, kOne, kZero };  // of random weights

struct WeightSpec {
  std::string name;
  Shape shape;
  Init init = Init::kNormal;
};

// `component`: "unet" (UNet2DConditionModel), "vae" (AutoencoderKL), "text_encoder" (CLIPTextModel)
// or "text_encoder_2" (CLIPTextModelWithProjection).
[[nodiscard]] std::vector<WeightSpec> diffusers_tensors(std::string_view component,
                                                        const JsonView& config);

}  // namespace halftone::io
