// The options of `generate` that `bench` and `build` share, and how they become library options.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "halftone/options.h"

#include "common.h"
#include "quant_options.h"

namespace halftone::cli {

struct ModelArgs {
  std::string model, version, variant, precision = "auto", vae_precision = "auto", plan, engine_dir;
  std::string unet, vae, text_encoder, text_encoder_2, model_config;  // folders
  bool no_cuda_graph = false, low_vram = false, reference_check = false;
  double memory_limit = 0;  // MiB
  bool no_launch_overlap = false;
  std::vector<std::string> disabled_passes, disabled_kernels;
  std::vector<std::string> loras;  // PATH[:WEIGHT]
  QuantArgs quant;
};
struct RequestArgs {
  std::vector<std::string> positionals, prompts;
  std::string prompt_file, prompt_2, negative_prompt, negative_prompt_2, negative_prompt_file;
  std::string size, original_size, target_size, crop_top_left;
  int width = 0, height = 0, steps = 0;
  double cfg_scale = 0;
  std::string seed = "-1", rng = "cuda";
  int batch_size = 1, batch_count = 1;
  std::string scheduler, sampling_method, sigma_schedule, sigmas, timesteps;
  double eta = 0, flow_shift = 0;
  std::string init_image, latents, dump_latents, output_type = "image";
  double strength = 0;
};

void add_model_options(CLI::App& app, ModelArgs& args);
void add_request_options(CLI::App& app, RequestArgs& args);

// Spellings of other tools that generate, bench and build accept or refuse.
[[nodiscard]] const Spelling& request_spelling();

[[nodiscard]] SessionOptions session_options(const ModelArgs& args, const CommonOptions& common);
// All but the prompt. Throws UsageError.
[[nodiscard]] GenerateOptions generate_options(const CLI::App& app, const RequestArgs& args);
// From positionals, -p, --prompt-file, "@FILE" and "-" (stdin); empty when none was given.
[[nodiscard]] std::vector<std::string> read_prompts(const RequestArgs& args);

// The model to open for what the user typed: a name inside --models-dir, an alias, or the model
// that comes with the program. Throws Error(kNotFound).
[[nodiscard]] std::string resolve_model(const std::string& typed, const CommonOptions& common);

// A folder of models/ that comes with the program and holds `marker`; empty when it is not there.
[[nodiscard]] std::string bundled_folder(std::string_view name, std::string_view marker);

// {width, height} of --size or of --width and --height; 0 where none was given.
[[nodiscard]] std::array<int, 2> picture_size(const CLI::App& app, const std::string& size,
                                              int width, int height);

// Of --seed: -1 is nullopt, a random one. Throws UsageError.
[[nodiscard]] std::optional<uint64_t> parse_seed(const std::string& text);

// "512x768" as {width, height}; throws UsageError naming `flag`.
[[nodiscard]] std::array<int, 2> parse_size(const std::string& text, std::string_view flag);

}  // namespace halftone::cli
