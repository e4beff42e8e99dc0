// Whether the tensors of a checkpoint are those its config.json calls for.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "tensor/tensor.h"

namespace halftone::models {

// Compares names, shapes and kinds of all tensors of a checkpoint's component ("text_encoder",
// "text_encoder_2", "unet", "vae", "clip") before anything is read. `stored_names` lists what the
// component holds, without its name. Throws kCorruptFile that lists missing, mis-shaped and
// unexpected tensors: the first 20 and their number.
void check_weights(std::string_view component, std::string_view class_name, const JsonView& config,
                   const WeightSource& weights, const std::vector<std::string>& stored_names);

}  // namespace halftone::models
