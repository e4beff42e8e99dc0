// One side of a comparison: what "fp32", a recipe, a plan, a model or a folder of pictures means,
// and its pictures.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "halftone/compare.h"

#include "backend/backend.h"
#include "tensor/tensor.h"

namespace halftone::workflow {

struct SideChoice {
  std::string kind, label;
  SessionOptions session;                       // unless kind is "images"
  std::vector<std::filesystem::path> pictures;  // kind "images": in the order of the prompts
};

// Throws kInvalidArgument when `spec` means nothing, naming what it may be.
[[nodiscard]] SideChoice choose_side(const std::string& spec, const CompareOptions& options);

// The PNG files of a folder, numbers in names by their value: "2.png" before "10.png".
[[nodiscard]] std::vector<std::filesystem::path> pictures_in(const std::filesystem::path& folder);

// The latent of a prompt after a step, f32 in the denoiser's order.
using LatentSink = std::function<void(size_t prompt, int step, std::span<const float> latent)>;

struct SideRun {
  CompareSide side;
  ResolvedRequest request;
  std::vector<std::filesystem::path> pictures;  // one a prompt
  std::vector<uint64_t> seeds;
  std::vector<ModuleTime> modules;  // medians over the prompts
};

// Throws what a dry run of this side's first prompt throws: of a plan or recipe that does not fit,
// a model that is none. Makes a calibration record that is missing first.
void check_side(backend::Device& device, const SideChoice& choice, const CompareOptions& options);

// Draws every prompt into `folder` (NNN.png); kind "images" only lists its pictures.
[[nodiscard]] SideRun run_side(backend::Device& device, const std::string& spec,
                               const SideChoice& choice, const CompareOptions& options,
                               const std::filesystem::path& folder, const LatentSink& on_latent);

}  // namespace halftone::workflow
