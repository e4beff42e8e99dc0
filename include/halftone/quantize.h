// From a scheme and a calibration record to a recipe, and the table of what it does to each layer.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "halftone/options.h"

namespace halftone {

struct QuantizedLayer {
  std::string name, op;       // "linear", "conv2d" or "attention"
  std::string weight, input;  // "i8 per_channel", "i8 per_token dynamic"; empty = kept as it was
  int weight_bits = 0, input_bits = 0;     // 0 = kept
  double input_amax = 0, input_scale = 0;  // static scales; 0 = dynamic or kept
  // The same of an attention's q, k and v.
  std::array<double, 3> operand_amax{}, operand_scale{};
  std::string smoothing;       // where SmoothQuant's factors went
  std::string why;             // the rule that decided
  std::optional<double> sqnr;  // of its output, dB; QuantizeOptions::sqnr
  uint64_t num_weights = 0;
};

// What the widths of a search are to keep low: the noise share of the denoiser's output (kSqnr),
// the loss of SSIM of the pictures that it predicts, or as MixDQ (kAuto) the latter for
// feed-forward and cross-attention layers, the former for the others. kUniform searches nothing:
// every layer has the target's width.
enum class BitObjective : uint8_t { kSqnr, kSsim, kAuto, kUniform };

// What a search must reach; exactly one of them is given.
struct Budget {
  // Means over the prompts that are drawn, against fp32, in dB: of the pictures, and of the final
  // latents. The smallest denoiser that reaches it is taken.
  std::optional<double> min_psnr, min_sqnr;
  std::optional<uint64_t> max_bytes;     // of the denoiser's weights; the least noise is taken
  std::optional<double> target_speedup;  // of a denoising step; the least noise is taken
  [[nodiscard]] bool given() const { return min_psnr || min_sqnr || max_bytes || target_speedup; }
};

// A choice of one format for each layer.
struct FrontPoint {
  uint64_t bytes = 0;  // the denoiser's weights
  double noise = 0;    // predicted: sum over the layers of their share of the step's change
  double step_ms = 0;  // predicted; only with target_speedup
  std::optional<double> psnr, sqnr, measured_step_ms;  // drawn
  std::vector<std::pair<std::string, int>> formats;    // layers of each format
  bool chosen = false;
};

struct QuantizeOptions {
  SessionOptions session;  // precision, quantization: as for generate
  std::string output;      // recipe file to write, and beside it <name>.layers.json; empty = none
  // Also put recipe and record into the model's folder, where precision "auto" finds them.
  bool install = false;
  bool sqnr = false;         // measure each layer while drawing generate.prompt
  GenerateOptions generate;  // for sqnr and target_bits
  // Where the recipe comes from instead of the session's scheme; each needs `output`.
  std::string weight_bits, act_bits;  // MixDQ's weight_*.yaml and, optionally, act_*.yaml
  std::string quant_params;           // and its ckpt.pth: ranges of the inputs
  std::string quant_layers;           // OneDiff's {"layer": {"ssim": x}}: only the best of these
  double top_percentage = 90;         // of them
  // Searches the mix of formats that the device executes; needs `output`, writes <output>.html too.
  Budget budget;
  // Drawn for it, and what target_bits measures with; empty = the model's calibration prompts. A
  // model that brings none is calibrated with these too, where its record is missing.
  std::vector<std::string> prompts;
  int num_prompts = 8;                           // how many of them
  std::optional<double> target_bits;             // search: mean weight bits, 2 to 8
  std::optional<double> target_act_bits;         // search: mean bits of inputs, 4 to 8
  BitObjective objective = BitObjective::kSqnr;  // of the search
  std::string protect;  // layers whose inputs stay as they are: one a line, or MixDQ's .pt list
};

struct QuantizeReport {
  std::string name;                      // "int8.l2.5.bs2.s20.c32.p1.0.a0.8"
  std::string origin;                    // "scheme int8", or the recipe's file
  std::string recipe_hash, record_hash;  // 64 hex digits; no record: empty
  std::vector<QuantizedLayer> layers;
  uint64_t bytes_f16 = 0, bytes = 0;  // of all layers' weights: in fp16, and as quantized
  std::vector<FrontPoint> pareto;     // of a search: smallest (or fastest) first
  std::vector<std::string> files;     // written
  double total_ms = 0;
};

// Calibrates first when the recipe needs a record that is missing and the model brings prompts.
// Throws kInvalidArgument when nothing asks for quantization.
QuantizeReport quantize(const QuantizeOptions& options);

struct LayersOptions {
  // A plan file, a recipe (.json), a table that quantize left beside one (.layers.json), or a
  // model.
  std::string path;
  // The model of a recipe (empty: the one whose folder holds it, else the table beside it), and
  // what to quantize a model with (nothing: the recipe in its folder, else int8).
  SessionOptions session;
  bool sqnr = false;  // measure each layer while drawing generate.prompt
  GenerateOptions generate;
};
// The table of layers, with the SQNR that this or an earlier run measured. Throws kInvalidArgument
// for a plan that quantizes nothing and for a recipe whose model is not known.
[[nodiscard]] QuantizeReport inspect_layers(const LayersOptions& options);
[[nodiscard]] std::string to_json(const QuantizeReport& report);

}  // namespace halftone
