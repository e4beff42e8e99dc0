// Options of trtexec, NeMo and OneDiff whose values are translated rather than passed on.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "halftone/log.h"

#include "args.h"

namespace halftone::cli {

// The members of an object of strings and plain words, as a command line holds it: {"mode": "a:b",
// "dynamic": true}. Throws UsageError, which shows `example`.
[[nodiscard]] std::map<std::string, std::string> read_flat_json(const std::string& json,
                                                                std::string_view flag,
                                                                std::string_view example);

// OneDiff's --compiler-config: {"mode": "word:word", "memory_format": ..., "dynamic": ...}. Each
// word is something that this engine always does, or is logged as doing nothing here. Throws
// UsageError for a word that OneDiff does not have.
void check_compiler_config(const std::string& json, const Logger& logger);

// trtexec's --shapes and its --minShapes, --optShapes, --maxShapes.
struct ShapesArgs {
  std::string shapes, min, opt, max;
};
// What they say about the denoiser, whose rows are images, twice as many with guidance.
struct DenoiserShape {
  int width = 0, height = 0;  // pixels; 0 = not given
  int rows = 0;
};
// "sample:8x4x128x128,timestep:8,..." in the tensor names of diffusers or NeMo. Throws UsageError
// for other names and for shapes that contradict each other.
[[nodiscard]] DenoiserShape parse_shapes(const ShapesArgs& args, const Logger& logger);

}  // namespace halftone::cli
