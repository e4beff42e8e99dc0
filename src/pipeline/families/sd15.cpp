// StableDiffusionPipeline and its image-to-image form: one text encoder with its final norm; an
// absent negative prompt is the empty text.
#include <array>

#include "pipeline/family.h"

namespace halftone::pipeline {

extern const Family sd15;

namespace {

constexpr std::array<std::string_view, 1> kEncoders = {"text_encoder"};
constexpr std::array<std::string_view, 1> kLabels = {"clip"};
constexpr std::array kTextParts = {TextPart{0, "hidden", "encoder_hidden_states"}};

Conditioning condition(std::span<const SizeConditioning>, int64_t) { return {}; }

}  // namespace

constexpr Family sd15 = {.name = "sd15",
                         .text_encoders = kEncoders,
                         .text_labels = kLabels,
                         .denoiser_label = "unet",
                         .default_steps = 50,
                         .default_guidance = 7.5,
                         .default_strength = 0.8,
                         .may_zero_negative = false,
                         .text_parts = kTextParts,
                         .condition = condition};

}  // namespace halftone::pipeline
