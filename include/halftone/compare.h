// The same prompts and seeds drawn in two ways: how far the pictures are apart, and what it saves.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "halftone/options.h"
#include "halftone/report.h"

namespace halftone {

struct CompareOptions {
  // What both sides share; precision and plan are the sides'.
  SessionOptions session;
  GenerateOptions generate;  // all but the prompt; picture i uses seed + i
  std::vector<std::string> prompts;
  // The reference and what is held against it. Each is a precision ("fp32"), a recipe file
  // (.json), a plan file or a folder of plan files, a model folder, or a folder of PNG pictures
  // made elsewhere, one a prompt in the order of their names.
  std::string a, b;
  // Folder of a Hugging Face CLIPModel that scores each picture against its prompt; empty: none.
  std::string clip_model;
  // Files or folders with the weights of LPIPS: torchvision's AlexNet or VGG16 and lpips' linear
  // layers, .pth or .safetensors; empty: none.
  std::vector<std::string> lpips{};
  std::string output;  // folder for report.html and the pictures; made when missing
  std::optional<double> min_psnr, min_ssim;  // of the means
  int max_pictures = 0;  // prompts shown with pictures, worst first; 0 = as many as stay readable
};

// Equal pictures have an infinite PSNR; tables and means count it as this.
inline constexpr double kIdenticalPsnr = 100.0;

struct Summary {
  double mean = 0, median = 0, p10 = 0, min = 0, max = 0;
};

struct PromptComparison {
  int index = 0;
  std::string prompt;
  uint64_t seed = 0;
  double psnr = 0;  // dB, at most kIdenticalPsnr
  bool identical = false;
  std::optional<double> ssim, ms_ssim;  // absent for pictures too small for the window
  std::optional<double> latent_sqnr;    // dB; absent without latents, infinite when equal
  std::optional<double> latent_mse;
  // CLIP score of each side's picture, max(100 cos, 0) as torchmetrics has it; with clip_model.
  std::optional<double> clip_a, clip_b;
  std::optional<double> lpips;   // 0 when equal; absent for pictures too small for the network
  std::string image_a, image_b;  // files
};

struct ModuleLatency {
  std::string name;
  int runs = 0;
  double a_ms = 0, b_ms = 0;  // median over the prompts; 0 when a side did not run it
};

// One quantized layer on recorded inputs.
struct LayerComparison {
  std::string name, op, scheme;
  double sqnr = 0;          // of its output, dB; infinite when equal
  double output_share = 0;  // of the output's energy that is error, 10^(-sqnr/10)
  std::string note;
};

struct CompareSide {
  std::string spec;           // as given
  std::string kind;           // "precision", "recipe", "plan", "model", "images"
  std::string label;          // for tables
  bool has_run = false;       // false: pictures made elsewhere, no figures below
  bool is_simulated = false;  // exact arithmetic of a slower kind: its times mean nothing
  std::vector<PlanUse> plans;
  MemoryUse memory;
  std::vector<ComponentMemory> component_memory;
  double pipeline_ms = 0;       // median of an image
  double steps_per_second = 0;  // median of a prompt's denoising loop
  double load_ms = 0, build_ms = 0;
  std::vector<std::string> warnings;
};

struct ClipScores {
  Summary a, b;
  Summary difference;  // b - a
};

struct CompareReport {
  ResolvedRequest request;
  CompareSide a, b;
  std::vector<PromptComparison> prompts;
  Summary psnr;
  std::optional<Summary> ssim, ms_ssim, latent_sqnr;
  std::optional<ClipScores> clip_score;
  std::optional<Summary> lpips;  // larger is worse: `max` is the worst prompt's
  std::string lpips_network;     // "alex" or "vgg"; empty when it was not asked for
  std::vector<int> worst;        // indices of prompts, worst PSNR first, at most ten
  // Median and p10 over the prompts of the latent's SQNR after each step; empty without latents.
  std::vector<double> step_sqnr, step_sqnr_p10;
  std::vector<ModuleLatency> modules;
  std::vector<LayerComparison> layers;
  std::optional<double> min_psnr, min_ssim;
  bool passed = true;  // no gate was missed
  std::string report;  // the HTML file
  double total_ms = 0;
};

// Throws kInvalidArgument for sides that mean nothing or do not fit each other.
[[nodiscard]] CompareReport compare(const CompareOptions& options);
[[nodiscard]] std::string to_json(const CompareReport& report);

}  // namespace halftone
