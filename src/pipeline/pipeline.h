// Prompt to image from plans alone: no compiler, no model code.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "halftone/log.h"
#include "halftone/options.h"

#include "diffusion/scheduler.h"
#include "pipeline/components.h"
#include "pipeline/family.h"
#include "pipeline/stage_times.h"
#include "text/clip_tokenizer.h"

namespace halftone::pipeline {

// What the run path must know of a model; kept in the metadata of its plans.
struct ModelFacts {
  std::string family;
  bool force_zeros_for_empty_prompt = false;
  int64_t latent_channels = 4;
  int64_t sample_size = 0;       // latent extent of the training
  int64_t vae_scale_factor = 8;  // image extent / latent extent
  double scaling_factor = 1.0;   // the denoiser's latent = (z - shift_factor) * scaling_factor
  double shift_factor = 0.0;
};
// From the metadata of the plans "unet" and "vae_decoder"; beside models/metadata.h's keys, "unet"
// has "family" and "force_zeros_for_empty_prompt". Throws kCorruptFile naming component and key.
[[nodiscard]] ModelFacts read_facts(const std::map<std::string, std::string>& unet,
                                    const std::map<std::string, std::string>& vae_decoder);

struct PipelineOptions {
  backend::Device* device = nullptr;  // must outlive the pipeline
  PlanProvider plans;
  ModelFacts facts;
  std::vector<std::shared_ptr<const text::ClipTokenizer>> tokenizers;  // one a text encoder
  size_t shapes_kept = 4;
  bool profile = false;
  bool record = true;  // as runtime::ExecutorOptions
  // Components are loaded one after the other and freed.
  bool low_vram = false;
  // A prompt and its negative one are encoded in one run (plans of batch 2).
  bool pair_texts = false;
  // As ComponentsOptions.
  std::function<void(const std::string& component, const runtime::ObservedCall&)> observer{};
  Logger logger;
};

// One batch, denoised together; every choice is made.
struct Request {
  std::string prompt, prompt_2;
  std::optional<std::string> negative_prompt, negative_prompt_2;  // absent is not empty
  int64_t width = 0, height = 0;  // pixels; multiples of vae_scale_factor
  double guidance = 0;            // > 1: the denoiser runs [uncond; cond]
  diffusion::Schedule schedule;
  std::vector<uint64_t> seeds;  // one an image
  Rng rng = Rng::kCuda;
  SizeConditioning size, negative_size;
  const Tensor* latents = nullptr;     // f32[n, c, h, w]: instead of the seeds' start noise
  const Tensor* init_image = nullptr;  // f32[1, height, width, 3] in [0, 1]
  bool decode = true;                  // false: latents only
  ProgressCallback progress;           // stages "load", "text", "encode", "denoise", "decode"
  // After each row of the schedule, to read the denoiser's outputs; index from 0.
  std::function<void(int row, const runtime::Executor& denoiser)> on_step;
  // After each decoded image, to read the decoder's outputs.
  std::function<void(const runtime::Executor& decoder)> on_decode;
};

struct Result {
  std::vector<std::vector<uint8_t>> rgb;  // one an image, height * width * 3; empty without decode
  Tensor initial;                         // f32[n, c, h, w]: what denoising started from
  Tensor latents;                         // f32[n, c, h, w]
  std::vector<StageTime> times;
  std::vector<Components::Use> plans;
  double total_ms = 0;  // without load and build
  double load_ms = 0, build_ms = 0;
};

// One caller at a time.
class Pipeline {
 public:
  explicit Pipeline(PipelineOptions options);

  [[nodiscard]] const ModelFacts& facts() const { return options_.facts; }
  [[nodiscard]] const Family& family() const { return family_; }

  // Throws kInvalidArgument for a request that does not fit the model, kCancelled within one step
  // of progress returning false, kInternal "numeric: ..." when a result is not finite.
  [[nodiscard]] Result generate(const Request& request);
  // Plans and executors for a request's shapes, without running it.
  void prepare(const Request& request);

  // Texts that a request encodes at a time.
  [[nodiscard]] int64_t texts_at_once(bool cfg, bool has_negative) const;
  // Components with their profile shapes that a request runs, in order.
  [[nodiscard]] std::vector<Components::Wanted> wanted(int64_t width, int64_t height, int64_t batch,
                                                       bool cfg, bool decode, bool encode,
                                                       int64_t texts = 1) const;
  [[nodiscard]] const Components& components() const { return components_; }

 private:
  struct Run;
  // An absent negative prompt is zeros, not an encoded empty text.
  [[nodiscard]] bool zeros_for_no_negative() const;
  PipelineOptions options_;
  const Family& family_;
  Components components_;
  std::unique_ptr<backend::Stream> stream_;  // the device's common order
  std::unique_ptr<backend::Stream> side_;    // for what is read beside it; null where there is none
};

// Throws kInvalidArgument unless both extents are positive multiples of `factor`; the message
// suggests the nearest ones.
void check_size(int64_t width, int64_t height, int64_t factor);

}  // namespace halftone::pipeline
