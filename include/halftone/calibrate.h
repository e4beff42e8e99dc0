// Statistics of a model's values while it draws: what static scales and smoothing are made of.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "halftone/options.h"
#include "halftone/report.h"

namespace halftone {

// What TensorRT's demo and MLPerf calibrate with.
inline constexpr const char* kCalibrationNegativePrompt =
    "normal quality, low quality, worst quality, low res, blurry, nsfw, nude";

struct CalibrateOptions {
  SessionOptions session;
  // Size, guidance, scheduler, negative prompt (absent = kCalibrationNegativePrompt), seed of the
  // first prompt (absent = 0; prompt i uses seed + i). The prompt is ignored; steps 0 = 20, or the
  // model's own when it takes fewer.
  GenerateOptions generate;
  std::vector<std::string> prompts;  // empty = the model folder's prompts/calibration.txt
  int calib_size = 32;               // prompts that are used; 0 with from_dump = all of it
  int batch_size = 2;                // prompts whose statistics count as one call
  std::string record;                // file; empty = the cache's for this model
  bool restart = false;              // discard what the file holds
  // Folder, made when missing, that gets a safetensors file a prompt: what the denoiser was given
  // and gave at each step. Empty = none.
  std::string dump{};
  // Such a folder to take the denoiser's inputs from, in place of `generate` and `prompts`: the
  // record equals the one of the run that made it. Or a file of MixDQ's gen_calib_data.py (a run
  // without guidance). Empty = draw.
  std::string from_dump{};
};

struct CalibrateReport {
  ResolvedRequest request;
  std::string record;  // file
  std::string
      decoder_record;   // of the VAE decoder, beside it; empty unless vae_precision quantizes
  std::string hash;     // of the record, 64 hex digits
  int64_t samples = 0;  // prompts in the record
  int64_t resumed_samples = 0;  // of those, found in the file
  int64_t num_values = 0, num_layers = 0;
  double total_ms = 0;
};

// Saves the record after every batch, whole or not at all; a later call goes on where a killed one
// stopped, or extends a smaller record. Throws kInvalidArgument when the file's record was made
// otherwise (other model, prompts, steps, ...), and for a dump of another model, kCorruptFile for
// damaged dumps.
CalibrateReport calibrate(const CalibrateOptions& options);
// Makes the record that a session's recipe needs and its cache lacks, from the prompts in the
// model's folder (32 of them, 20 steps). Nothing when none is needed, when it is there, or when the
// model brings no prompts.
void calibrate_if_missing(const SessionOptions& session);
[[nodiscard]] std::string to_json(const CalibrateReport& report);

}  // namespace halftone
