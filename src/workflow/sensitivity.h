// What quantizing one layer alone does to the denoiser's result: the table that bit widths and
// precisions are chosen from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "halftone/options.h"

#include "backend/backend.h"
#include "quant/recipe.h"

namespace halftone::workflow {

// One way to quantize a layer: what the recipe would do to it.
struct SensitivityFormat {
  std::string name;  // "w4", "a8", "int8"; unique
  quant::Recipe recipe;
};

// Of one layer in one format, the others in full precision.
struct Effect {
  // Share of the latent's change in a step (guidance included) that is error: the noise of the
  // guided denoiser's output over its energy, 10^(-SQNR/10), over all points together; and at each.
  double noise = 0;
  std::vector<double> shares{};
  // 1 - SSIM of the decoded pictures that the steps predict, mean over the points; 0 when not
  // measured.
  double ssim_loss = 0;
  int weight_bits = 0, input_bits = 0;  // 0 = kept as it is
};

struct LayerSensitivity {
  std::string name;
  quant::LayerKind kind = quant::LayerKind::kLinear;
  int64_t num_weights = 0;
  int64_t num_inputs = 0;   // elements of its input for one image, both halves of guidance
  int64_t num_outputs = 0;  // output channels
  std::vector<std::optional<Effect>> effects;  // a format; nothing where it leaves the layer alone

  // The weights as they are stored: packed bits and one f32 scale an output channel; kept ones at
  // `kept_bits`.
  [[nodiscard]] uint64_t weight_bytes(int bits, int kept_bits = 16) const;
};

struct SensitivityTable {
  std::vector<std::string> formats;
  std::vector<LayerSensitivity> layers;  // in the order of the graph; those that a format changes
};

struct SensitivityOptions {
  std::vector<SensitivityFormat> formats;
  // One a point, that is a step of its trajectory; the steps of n points lie in the middles of n
  // equal parts of the schedule. Empty = the first `num_points` of the model's calibration prompts.
  std::vector<std::string> prompts;
  int num_points = 3;
  bool ssim = false;           // measure ssim_loss too; a decoding a measurement
  std::filesystem::path file;  // kept and resumed; empty = in the cache, if there is one
};

// Draws the points' prompts in full precision (fp32). Then, at each point and for every layer and
// format, runs the denoiser from the layer's block on with the recipe applied to that layer alone
// (Quantize and Dequantize kept apart) on the inputs that the block has in full precision.
// `generate` gives steps, guidance, size and seed. Progress: stage "sensitivity". What was measured
// is kept layer by layer; a table of the same model, formats and points is taken up again.
[[nodiscard]] SensitivityTable measure_sensitivity(backend::Device& device,
                                                   const SessionOptions& session,
                                                   const GenerateOptions& generate,
                                                   const SensitivityOptions& options);

// As a JSON document; parse throws kCorruptFile naming file and key.
[[nodiscard]] std::string to_json(const SensitivityTable& table, const std::string& key);
[[nodiscard]] SensitivityTable parse_sensitivity(std::string_view text, const std::string& where,
                                                 std::string* key);

}  // namespace halftone::workflow
