// The table of layers: what a recipe does to each, as rows, as JSON, and what was measured of them.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "halftone/quantize.h"

#include "base/json.h"
#include "graph/graph.h"
#include "quant/apply.h"

namespace halftone::workflow {

// Key of a plan's metadata that holds the rows of its denoiser.
inline constexpr const char* kLayersKey = "quantized_layers";

[[nodiscard]] std::vector<QuantizedLayer> layer_rows(const quant::Applied& applied);
// Adds rows and the bytes of their weights.
void add_rows(std::vector<QuantizedLayer> rows, QuantizeReport& report);

[[nodiscard]] Json to_value(const std::vector<QuantizedLayer>& rows);
// Throws as JsonView for what to_value would not write.
[[nodiscard]] std::vector<QuantizedLayer> parse_rows(const JsonView& rows);
// A <recipe>.layers.json, as halftone::to_json(QuantizeReport) writes it.
[[nodiscard]] QuantizeReport parse_layer_table(std::string_view text, const std::string& where);

// Layer -> SQNR of its output in dB, kept in the cache by weights, recipe, record and what
// quantizes (hashes).
using LayerSqnr = std::map<std::string, double>;
struct SqnrKey {
  std::filesystem::path cache_dir;  // empty = nothing is kept or found
  std::string weights, recipe, record;
};
void keep_sqnr(const SqnrKey& key, const LayerSqnr& sqnr);
// Empty when nothing was measured; a damaged file counts as nothing.
[[nodiscard]] LayerSqnr find_sqnr(const SqnrKey& key);
void set_sqnr(const LayerSqnr& sqnr, std::vector<QuantizedLayer>& rows);

}  // namespace halftone::workflow
