#include "foreign.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <vector>

#include <fmt/format.h>

namespace halftone::cli {
namespace {

struct CompilerWord {
  std::string_view word, meaning;
};
constexpr std::string_view kNoTuning = "no kernel is chosen by timing it";
constexpr std::string_view kNoTorch = "belongs to torch's compiler and changes nothing";
constexpr std::array kCompilerWords = {
    CompilerWord{"max-optimize", kNoTuning},
    CompilerWord{"max-autotune", kNoTuning},
    CompilerWord{"benchmark", kNoTuning},
    CompilerWord{"O2", kNoTuning},
    CompilerWord{"O3", kNoTuning},
    CompilerWord{"cudagraphs", "always so on a GPU"},
    CompilerWord{"inductor-cudagraphs", "always so on a GPU"},
    CompilerWord{"cache-all", "always so: plans are cached"},
    CompilerWord{"freezing", "always so: constants are folded"},
    CompilerWord{"low-precision", "--precision decides how sums are kept"},
    CompilerWord{"fast-accum", "--precision decides how sums are kept"},
    CompilerWord{"quant", "--quantize-config names the scheme"},
    CompilerWord{"jit", kNoTorch},
    CompilerWord{"disable-inductor", kNoTorch},
    CompilerWord{"cpp-wrapper", kNoTorch},
    CompilerWord{"disable-runtime-fusion", kNoTorch},
};

}  // namespace

std::map<std::string, std::string> read_flat_json(const std::string& json, std::string_view flag,
                                                  std::string_view example) {
  std::map<std::string, std::string> members;
  size_t at = 0;
  const auto fail = [&] {
    throw UsageError(fmt::format("{}: got '{}', wanted an object such as {}", flag, json, example));
  };
  const auto skip_spaces = [&] {
    while (at < json.size() && (json[at] == ' ' || json[at] == '\n' || json[at] == '\t')) ++at;
  };
  const auto take = [&](char wanted) {
    skip_spaces();
    if (at >= json.size() || json[at] != wanted) fail();
    ++at;
  };
  const auto text = [&] {
    take('"');
    const size_t end = json.find('"', at);
    if (end == std::string::npos) fail();
    std::string value = json.substr(at, end - at);
    at = end + 1;
    return value;
  };
  take('{');
  for (skip_spaces(); at < json.size() && json[at] != '}'; skip_spaces()) {
    if (!members.empty()) take(',');
    const std::string key = text();
    take(':');
    skip_spaces();
    if (at < json.size() && json[at] == '"') {
      members[key] = text();
    } else {
      const size_t end = std::min(json.find_first_of(",} ", at), json.size());
      members[key] = json.substr(at, end - at);
      at = end;
    }
  }
  take('}');
  skip_spaces();
  if (at != json.size()) fail();
  return members;
}

namespace {

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  size_t begin = 0;
  while (begin <= text.size()) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

// A tensor of the denoiser by its names in diffusers and NeMo.
struct DenoiserInput {
  std::string_view name, nemo_name;
  size_t rank;
};
constexpr std::array kInputs = {
    DenoiserInput{"sample", "x", 4},
    DenoiserInput{"timestep", "timesteps", 1},
    DenoiserInput{"encoder_hidden_states", "context", 3},
    DenoiserInput{"text_embeds", "text_embeds", 2},
    DenoiserInput{"time_ids", "time_ids", 2},
    DenoiserInput{"y", "y", 2},  // text_embeds and time_ids together
};
constexpr int kMaxRows = 128;
constexpr int kMaxLatentExtent = 1024;
constexpr int kPixelsPerLatent = 8;
constexpr int kTextTokens = 77;

std::vector<int> parse_dims(const std::string& text, std::string_view flag) {
  std::vector<int> dims;
  for (const std::string& part : split(text, 'x')) {
    int dim = 0;
    const auto [end, code] = std::from_chars(part.data(), part.data() + part.size(), dim);
    if (code != std::errc() || end != part.data() + part.size() || dim < 1) {
      throw UsageError(fmt::format("{}: got '{}', wanted sizes such as 2x4x128x128", flag, text));
    }
    dims.push_back(dim);
  }
  return dims;
}

DenoiserShape parse_one(const std::string& text, std::string_view flag, const Logger& logger) {
  DenoiserShape shape;
  for (const std::string& entry : split(text, ',')) {
    const size_t colon = entry.find(':');
    const std::string name = entry.substr(0, colon);
    const auto* input = std::find_if(
        kInputs.begin(), kInputs.end(),
        [&](const DenoiserInput& known) { return name == known.name || name == known.nemo_name; });
    if (colon == std::string::npos || input == kInputs.end()) {
      throw UsageError(
          fmt::format("{}: got '{}', wanted NAME:SIZES with the name sample, timestep, "
                      "encoder_hidden_states, text_embeds or time_ids (NeMo's x, timesteps, "
                      "context, y)",
                      flag, entry));
    }
    const std::vector<int> dims = parse_dims(entry.substr(colon + 1), flag);
    if (dims.size() != input->rank) {
      throw UsageError(
          fmt::format("{}: {} has {} sizes, wanted {}", flag, name, dims.size(), input->rank));
    }
    if (input->rank == 1 && dims[0] == 1)
      continue;  // one timestep for all rows, as exports have it
    if ((shape.rows != 0 && shape.rows != dims[0]) || dims[0] > kMaxRows) {
      throw UsageError(fmt::format("{}: {} has {} rows, wanted {}", flag, name, dims[0],
                                   shape.rows != 0 ? fmt::format("{} as the others", shape.rows)
                                                   : fmt::format("at most {}", kMaxRows)));
    }
    shape.rows = dims[0];
    if (input->rank == 4) {
      if (dims[2] > kMaxLatentExtent || dims[3] > kMaxLatentExtent) {
        throw UsageError(
            fmt::format("{}: {} is larger than {} latents", flag, name, kMaxLatentExtent));
      }
      shape.height = dims[2] * kPixelsPerLatent;
      shape.width = dims[3] * kPixelsPerLatent;
    } else if (input->rank == 3 && dims[1] != kTextTokens) {
      log(logger, LogLevel::kInfo, "cli",
          fmt::format("{}: {} of {} tokens: CLIP's text has {}, nothing is padded", flag, name,
                      dims[1], kTextTokens));
    }
  }
  return shape;
}

}  // namespace

namespace {

// Sizes that were not given are 0.
void need_order(const DenoiserShape& least, const DenoiserShape& most, std::string_view low,
                std::string_view high) {
  const auto ordered = [](int a, int b) { return a == 0 || b == 0 || a <= b; };
  if (ordered(least.rows, most.rows) && ordered(least.width, most.width) &&
      ordered(least.height, most.height)) {
    return;
  }
  const auto text = [](const DenoiserShape& shape) {
    return fmt::format("{} rows of {}x{} pixels", shape.rows, shape.width, shape.height);
  };
  throw UsageError(
      fmt::format("{}: got {}, more than {} with {}", low, text(least), high, text(most)));
}

}  // namespace

void check_compiler_config(const std::string& json, const Logger& logger) {
  constexpr std::string_view kFlag = "--compiler-config";
  for (const auto& [key, value] : read_flat_json(json, kFlag, R"({"mode": "O3"})")) {
    if (key == "memory_format") {
      log(logger, LogLevel::kInfo, "cli", "--compiler-config: memory_format: always channels last");
    } else if (key == "dynamic") {
      log(logger, LogLevel::kInfo, "cli",
          "--compiler-config: dynamic: a new size builds its own profile when it is first used");
    } else if (key != "mode") {
      throw UsageError(
          fmt::format("{}: unknown key '{}', wanted mode, memory_format or dynamic", kFlag, key));
    } else {
      for (const std::string& word : split(value, ':')) {
        const auto* known =
            std::find_if(kCompilerWords.begin(), kCompilerWords.end(),
                         [&](const CompilerWord& entry) { return entry.word == word; });
        if (known == kCompilerWords.end()) {
          throw UsageError(fmt::format("{}: unknown word '{}' in mode", kFlag, word));
        }
        log(logger, LogLevel::kInfo, "cli", fmt::format("{}: {}: {}", kFlag, word, known->meaning));
      }
    }
  }
}

DenoiserShape parse_shapes(const ShapesArgs& args, const Logger& logger) {
  if (!args.shapes.empty() && !(args.min.empty() && args.opt.empty() && args.max.empty())) {
    throw UsageError("--shapes and --minShapes, --optShapes, --maxShapes exclude each other");
  }
  DenoiserShape chosen, least, best, most;
  const std::array<std::pair<std::string_view, const std::string*>, 4> flags = {
      {{"--minShapes", &args.min},
       {"--maxShapes", &args.max},
       {"--optShapes", &args.opt},
       {"--shapes", &args.shapes}}};
  for (const auto& [flag, text] : flags) {
    if (text->empty()) continue;
    chosen = parse_one(*text, flag, logger);
    if (text == &args.min) least = chosen;
    if (text == &args.opt) best = chosen;
    if (text == &args.max) most = chosen;
  }
  need_order(least, best, "--minShapes", "--optShapes");
  need_order(best, most, "--optShapes", "--maxShapes");
  need_order(least, most, "--minShapes", "--maxShapes");
  if (!args.min.empty() || !args.max.empty()) {
    log(logger, LogLevel::kInfo, "cli",
        "a range of shapes is a permission: this builds the optimum, other sizes build theirs when "
        "they are first used");
  }
  return chosen;
}

}  // namespace halftone::cli
