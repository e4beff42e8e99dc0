// What a caller may ask for. Plain structs for designated initialisers; a field left alone means
// "the model's own default".
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "halftone/log.h"

namespace halftone {

// How the plans compute. kAuto on a CPU is bf16 where the processor multiplies bf16 natively
// (AVX512-BF16 or AMX), else f32; on a GPU it is f16 (the VAE: bf16, as SDXL's overflows f16).
// kI8 and kF8 quantize the denoiser by the scheme "int8" or "fp8"; everything else computes as
// kAuto says.
enum class Precision : uint8_t { kAuto, kF32, kBF16, kF16, kI8, kF8 };
[[nodiscard]] constexpr bool is_quantized(Precision precision) {
  return precision == Precision::kI8 || precision == Precision::kF8;
}
// Whose noise a seed means: torch's CUDA generator (WebUI) or its CPU generator (ComfyUI).
enum class Rng : uint8_t { kCuda, kCpu };
enum class OutputType : uint8_t { kImage, kLatent };

// "auto", "fp32", "bf16", "fp16", "int8", "fp8"
[[nodiscard]] std::string_view to_string(Precision precision);
[[nodiscard]] std::string_view to_string(Rng rng);  // "cuda", "cpu"

// A low-rank addition to the weights: a safetensors file, a folder that holds one, or ORG/NAME.
struct LoraOption {
  std::string path;
  double weight = 1;
};

struct ModelOptions {
  std::string model;     // a diffusers folder, a single .safetensors file, or ORG/NAME
  std::string variant;   // "fp16", "bf16": which files of a folder to take; empty = the plain ones
  std::string hf_cache;  // root of the local Hugging Face cache; empty = ids are not looked up
  // Folders that replace one component: {"vae", "/models/sdxl-vae-fp16-fix"}.
  std::map<std::string, std::string> component_folders;
  // For single files, which hold neither configs nor a tokenizer: a diffusers folder that describes
  // the file (empty = the released models' configs), and a folder with CLIP's vocab.json and
  // merges.txt.
  std::string config_folder, clip_vocab;
  std::vector<LoraOption> loras{};  // added to the weights while they are read
};

// How the denoiser is quantized. Left alone, only Precision::kI8 or kF8 quantize it, by their
// scheme's defaults; a recipe or a scheme quantizes with any other precision as what is computed
// around it. kAuto takes the recipe that a model's folder holds (halftone/recipe.json, with
// halftone/calibration.safetensors).
struct QuantizationOptions {
  std::string recipe;             // a JSON file; instead of all that follows but `ranges`
  std::string ranges;             // calibration record; empty = the cache's for this model
  std::string scheme;             // "int8", "fp8", "fp8_e4m3_e4m3_dynamic", ...
  std::optional<double> level;    // 1, 2, 2.5, 3 or 4
  std::optional<double> alpha;    // SmoothQuant
  std::optional<bool> smooth;     // false: no SmoothQuant
  std::optional<bool> per_token;  // inputs of linears: dynamic per token, or static per tensor
  // Static scales, per token elsewhere, for what a kernel can then write as codes: "attention"
  // (what attention's output projections read), "ff" (what a GEGLU makes), "all", "auto" (where the
  // record predicts static_min_sqnr for it) or "none"; empty = the scheme's.
  std::string static_producers;
  // int8: dB that the record must predict for such a scale; absent = 30.5 for "auto", else any.
  std::optional<double> static_min_sqnr;
  std::map<std::string, double> alphas;  // pattern -> alpha
  // Attentions in 8 bits: "fp8", "fp8-self" (of the image with itself only), "fp8-long"
  // (fp8-self, but only from 2,048 tokens on), "int8-fp8" or "none";
  // empty = FP8 at level 4 of an FP8 scheme.
  std::string attention;
  std::string policy = "default";             // which layers stay as they are
  std::vector<std::string> exclude, include;  // patterns of layer names
  // A UNet's shortcuts over two joined values in two halves with scales of their own (MixDQ);
  // absent = only for MixDQ's files.
  std::optional<bool> split_shortcut;
  // Text inputs with static scales quantized but for the first token (MixDQ's BOS), else not at
  // all; absent = only for MixDQ's files.
  std::optional<bool> bos_aware;
  std::string collect_method;  // empty = the scheme's
  double percentile = 1.0;     // share of the steps that count
  std::string calib_compat = "none";
  bool simulate = false;  // keep Quantize/Dequantize apart: exact simulation, slow
  // Prompts of the cache's record: made or extended to so many; 0 = 32, and an existing record is
  // enough.
  int calib_size = 0;
};

// A quantization option that is not as it was made.
struct GivenOption {
  std::string_view flag;       // its name on the command line
  bool chooses = true;         // belongs to what a recipe says; others say how it is carried out
  bool decoder_reads = false;  // a quantized VAE decoder, whose scheme is its own, reads it too
};
[[nodiscard]] std::vector<GivenOption> given_options(const QuantizationOptions& options);

struct SessionOptions {
  ModelOptions model;
  std::string device = "auto";  // "auto", "cpu" or "cuda:N"
  int threads = 0;              // 0 = every core this process may use
  // A GPU replays a stage as one recorded graph; false launches every kernel by itself.
  bool device_graphs = true;
  // One component after the other is loaded and freed: text encoders, denoiser, VAE. The pictures
  // are the same bytes; each run loads again.
  bool low_vram = false;
  uint64_t memory_limit = 0;  // bytes of device memory that may be held at a time; 0 = all it has
  // Runs every node beside its reference on the same inputs, the first time:
  // GenerateReport::checks. Slow.
  bool reference_check = false;
  // Whether a kernel of a GPU may start while the one before it ends; no result depends on it.
  bool overlap_launches = true;
  std::vector<std::string> disabled_passes;   // of the graph compiler, by name
  std::vector<std::string> disabled_kernels;  // by name, or by prefix ending in '*'
  std::string cache_dir;                      // plan cache; empty = none
  Precision precision = Precision::kAuto;
  // kAuto = as `precision`, without quantization; kI8 and kF8 quantize the decoder's convolutions.
  Precision vae_precision = Precision::kAuto;
  QuantizationOptions quantization{};
  std::string engine_dir;  // folder that keeps plans in place of the cache's; made when missing
  // A plan file of the denoiser, or a folder with plan files of all components, from which nothing
  // else is built; they must fit (kIncompatiblePlan). Empty = by fingerprint from the cache, built
  // when missing.
  std::string plan;
  Logger logger;
  ProgressCallback progress;
};

struct GenerateOptions {
  std::string prompt;
  std::optional<std::string> prompt_2;  // second text encoder; absent = prompt
  // Absent is not empty: models with force_zeros_for_empty_prompt (SDXL) take zeros for an absent
  // negative prompt and encode a given one, even "".
  std::optional<std::string> negative_prompt, negative_prompt_2;
  int width = 0, height = 0;
  int steps = 0;
  std::optional<double> guidance;  // <= 1: no guidance, the denoiser runs half the batch
  std::optional<uint64_t> seed;    // absent = random; image i of a run uses seed + i
  Rng rng = Rng::kCuda;
  int batch_size = 1;   // images denoised together
  int batch_count = 1;  // repetitions
  // Micro-conditioning of SDXL: (height, width) of the original and the target, (top, left) of the
  // crop.
  std::optional<std::array<int, 2>> original_size, crop_top_left, target_size;

  std::string scheduler;             // canonical name, alias or diffusers class
  std::string sigma_schedule;        // "karras", "leading", "trailing", "linspace"
  std::optional<double> eta;         // DDIM's
  std::optional<double> flow_shift;  // flow matching's
  std::vector<double> sigmas;        // instead of the scheduler's own
  std::vector<double> timesteps;

  std::string init_image;          // PNG; the result starts from it
  std::optional<double> strength;  // 0..1, how much of the schedule is run
  std::string latents;             // safetensors, tensor "latents" f32 [n,4,h/8,w/8]: start noise
  std::string dump_latents;        // safetensors to write: "initial" and "latents" (final), NCHW
  OutputType output_type = OutputType::kImage;
};

struct BuildOptions {
  int width = 0, height = 0;
  int batch_size = 1;
  std::optional<double> guidance;  // only whether it is above 1 matters
  bool with_vae_encoder = false;   // for image-to-image
  // One component ("unet", ...); empty = all that generate needs.
  std::string component;
  // Where to put the plan files: a file when one component is built, else a folder. Empty = only
  // the cache.
  std::string save;
};

struct BenchOptions {
  GenerateOptions generate;
  int warmup = 1;
  int iterations = 3;
  bool profile = true;  // time per operator class
};

}  // namespace halftone
