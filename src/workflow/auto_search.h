// A mix of formats under a budget: each layer's format by what it does to the denoiser's result,
// the exact choice, and pictures that verify it.
#pragma once

#include <string>
#include <vector>

#include "halftone/quantize.h"

#include "backend/backend.h"
#include "quant/recipe.h"
#include "quant/search.h"
#include "workflow/sensitivity.h"

namespace halftone::workflow {

// What the layers of a table may become, with what each choice costs. Format 0 keeps a layer.
struct MixTable {
  std::vector<std::string> formats;          // "keep", "int8", ...
  std::vector<quant::Recipe> recipes;        // of the formats; the first one is empty
  std::vector<LayerSensitivity> layers;      // effects[f - 1] belongs to formats[f]
  std::vector<std::vector<size_t>> options;  // a layer: formats that it can have
  uint64_t fixed_bytes = 0;                  // weights of everything else
  int kept_bits = 32;                        // of a weight that is kept
  // Milliseconds that a format saves on a layer; empty without a speed budget.
  std::vector<std::vector<double>> saved_ms;
  double step_ms = 0;  // of everything kept
};

// A choice: for each layer the position in MixTable::options.
[[nodiscard]] FrontPoint point_of(const MixTable& table, const std::vector<size_t>& chosen);
[[nodiscard]] quant::Recipe recipe_of(const MixTable& table, const std::vector<size_t>& chosen,
                                      const quant::Collect& collect);
// The choices on the convex hull of noise over bytes, or over time when the table has times;
// cheapest first.
[[nodiscard]] std::vector<quant::Selection> front_of(const MixTable& table);
// The choice with the least noise within a budget of bytes or of milliseconds a step. Throws
// kUnsupported naming the smallest that there is when nothing fits.
[[nodiscard]] std::vector<size_t> within_bytes(const MixTable& table, uint64_t max_bytes);
[[nodiscard]] std::vector<size_t> within_time(const MixTable& table, double step_ms);

struct AutoSearch {
  quant::Recipe recipe;
  std::vector<FrontPoint> points;  // the hull, and the choice, cheapest first
};

// Formats: those of 8 and 4 bits that the device executes (FP8 where it multiplies it). Draws to
// verify: a quality budget moves along the front until the pictures reach it, a speed budget until
// the measured step does. Throws kUnsupported with the best that was found when none does.
[[nodiscard]] AutoSearch search_budget(backend::Device& device, const SessionOptions& session,
                                       const QuantizeOptions& options);

// Self-contained HTML with the front as SVG.
[[nodiscard]] std::string front_page(const std::string& title, const Budget& budget,
                                     const std::vector<FrontPoint>& points);

}  // namespace halftone::workflow
