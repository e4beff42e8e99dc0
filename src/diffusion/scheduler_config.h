// What a scheduler_config.json says, with diffusers' defaults of its scheduler class filled in.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace halftone::diffusion {

enum class PredictionType : uint8_t { kEpsilon, kVPrediction, kSample };
enum class TimestepSpacing : uint8_t { kLeading, kTrailing, kLinspace };
enum class BetaSchedule : uint8_t { kLinear, kScaledLinear, kSquaredCosCapV2 };
// How sigmas are respaced after the timesteps are chosen.
enum class SigmaSchedule : uint8_t { kNone, kKarras, kExponential, kBeta, kLu };
enum class FinalSigma : uint8_t { kZero, kSigmaMin };

struct SchedulerConfig {
  std::string class_name;  // diffusers' class, e.g. "EulerDiscreteScheduler"

  // Noise table.
  int64_t num_train_timesteps = 1000;
  double beta_start = 0.0001;
  double beta_end = 0.02;
  BetaSchedule beta_schedule = BetaSchedule::kLinear;
  std::vector<double> trained_betas;  // not empty: replaces the three above
  bool rescale_betas_zero_snr = false;

  // Timesteps and sigmas.
  TimestepSpacing timestep_spacing = TimestepSpacing::kLinspace;
  int64_t steps_offset = 0;
  bool log_linear_sigmas = false;  // interpolation_type "log_linear" (Euler)
  SigmaSchedule sigma_schedule = SigmaSchedule::kNone;
  std::optional<double> sigma_min;  // bounds of the respaced sigmas; absent: the table's
  std::optional<double> sigma_max;
  FinalSigma final_sigma = FinalSigma::kZero;
  double shift = 1.0;                     // flow matching
  int64_t original_inference_steps = 50;  // LCM
  double timestep_scaling = 10.0;         // LCM

  // Update rule.
  PredictionType prediction_type = PredictionType::kEpsilon;
  bool clip_sample = false;  // only as a default: true is refused
  bool set_alpha_to_one = true;
  bool skip_prk_steps = false;  // PNDM
  int64_t solver_order = 2;     // UniPC, DPM++
  std::string solver_type;      // "bh1", "bh2"; "midpoint", "heun"
  std::string algorithm_type;   // DPM++: "dpmsolver++", "sde-dpmsolver++"
  std::string variance_type;    // DDPM
  bool lower_order_final = true;
  bool euler_at_final = false;
  std::vector<int64_t> disable_corrector;  // UniPC: steps without corrector
};

// Reads the configuration for the scheduler named by its "_class_name". Throws kUnsupported, naming
// class and key, for an unknown class and for options that no linear update can follow
// (thresholding, clip_sample, dynamic shifting, learned variances, ...), kCorruptFile for values
// that make no sense. Unknown keys are ignored, as diffusers ignores another class's keys.
[[nodiscard]] SchedulerConfig parse_scheduler_config(const JsonView& json);
// As if "_class_name" were `class_name`: diffusers' Class.from_config. Keys that the file leaves
// out take the new class's defaults, but for clip_sample and skip_prk_steps, which are taken as
// every latent model has them (false and true).
[[nodiscard]] SchedulerConfig parse_scheduler_config(const JsonView& json,
                                                     std::string_view class_name);

}  // namespace halftone::diffusion
