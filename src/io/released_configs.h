// Configurations of the released models, for single files (which hold none) and random checkpoints.
#pragma once

#include <optional>
#include <string_view>

#include "base/json.h"

namespace halftone::io {

// A config of "sdxl", "sdxl-turbo" or "sd15". `document`: "model_index", "scheduler", "unet",
// "vae", "text_encoder" or "text_encoder_2"; nullopt when the family has no such document.
[[nodiscard]] std::optional<Json> released_config(std::string_view family,
                                                  std::string_view document);

}  // namespace halftone::io
