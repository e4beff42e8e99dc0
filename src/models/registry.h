// From a component's class name to its graph: the only entry that build workflows need.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/json.h"
#include "graph/graph.h"
#include "models/build.h"
#include "models/config_reader.h"
#include "models/metadata.h"

namespace halftone::models {

// One line of models.inc.
struct Model {
  std::string_view class_name;  // as model_index.json has it: "UNet2DConditionModel"
  std::string_view part;  // "text_encoder" (also _2, _3), "unet", "vae_decoder", "vae_encoder",
                          // and, for scores, "clip_text", "clip_vision"
  graph::Graph (*build)(std::string_view component, ConfigReader& json, const BuildShape& shape,
                        const BuildOptions& options);
  Metadata (*metadata)(ConfigReader& json);
};

[[nodiscard]] std::span<const Model* const> all_models();

// `component` is a plan's name: "text_encoder", "text_encoder_2", "unet", "vae_decoder",
// "vae_encoder", or a part of "clip". Throws kUnsupported naming the known classes.
[[nodiscard]] const Model& find_model(std::string_view component, std::string_view class_name);

// The class a config.json says it is of: "_class_name", else the first of "architectures", else "".
[[nodiscard]] std::string class_name_of(const Json& config);

// The verified graph. Throws kCorruptFile or kUnsupported for the config, kInvalidArgument for a
// shape.
[[nodiscard]] graph::Graph build(std::string_view component, std::string_view class_name,
                                 const JsonView& config, const BuildShape& shape,
                                 const BuildOptions& options, const Logger& logger = {});

// metadata.h's keys. Checks the config like build(), without warnings.
[[nodiscard]] Metadata metadata(std::string_view component, std::string_view class_name,
                                const JsonView& config);

}  // namespace halftone::models
