// Schedulers as data: each turns its configuration and a number of steps into rows of numbers, one
// per evaluation of the denoiser, which a single fused kernel applies.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "diffusion/scheduler_config.h"
#include "tensor/step_coefficients.h"

namespace halftone::diffusion {

// One evaluation of the denoiser and the update after it.
struct ScheduleRow {
  float timestep = 0;             // conditioning number of the model
  StepCoefficients coefficients;  // guidance left at 1
  bool uses_noise = false;        // the row reads fresh standard normal noise
  // The sample at the start of this row, from a clean latent: signal_scale * x0 + noise_scale * n.
  double signal_scale = 0;
  double noise_scale = 0;
};

struct Schedule {
  std::vector<ScheduleRow> rows;  // the rows to run, `first_step` already skipped
  int64_t first_step = 0;         // evaluations skipped by strength < 1
  float init_noise_sigma = 1;     // text to image starts from init_noise_sigma * noise
  std::vector<double> timesteps;  // of the whole schedule
  std::vector<double> sigmas;     // with the last value appended; empty for schedulers without
};

struct ScheduleOptions {
  int64_t num_steps = 0;  // ignored when timesteps or sigmas are given
  double strength = 1.0;  // image to image: the last strength * num_steps steps are run
  double eta = 0.0;       // DDIM: 0 deterministic, 1 as noisy as DDPM
  std::vector<double> timesteps = {};  // the user's own, descending; at most one of the two
  std::vector<double> sigmas = {};  // the user's own, descending; Euler's end with the final sigma
};

struct Scheduler {
  std::string_view name;        // "euler-a"
  std::string_view class_name;  // "EulerAncestralDiscreteScheduler"
  // Other spellings, lower case with '-' between words: TensorRT demo, sd.cpp, WebUI names.
  std::span<const std::string_view> aliases = {};
  // Has diffusers' options use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas.
  bool has_sigma_schedules = false;
  // Follows respaced sigmas when asked, although diffusers' class has no option for them (sd.cpp
  // and WebUI combine "Euler a" with Karras); such keys of a scheduler_config.json stay ignored.
  bool can_respace_sigmas = false;
  bool has_clip_sample = false;             // has the option clip_sample, which is refused when set
  bool has_eta = false;                     // reads ScheduleOptions::eta
  bool is_flow = false;                     // for models that predict a flow velocity
  std::string_view algorithm_type = {};     // implied by this name; empty: the configuration's
  SchedulerConfig (*defaults)() = nullptr;  // diffusers' defaults of the class
  Schedule (*schedule)(const SchedulerConfig& config, const ScheduleOptions& options) = nullptr;
};

// Every scheduler, in the order of schedulers.inc.
[[nodiscard]] std::span<const Scheduler* const> schedulers();

// By canonical name, diffusers class or alias; case, '_' and ' ' do not matter. Null when unknown.
[[nodiscard]] const Scheduler* find_scheduler(std::string_view name);

// The one that a configuration runs: by its class and algorithm. Throws kUnsupported, with the list
// of known names, for an unknown class.
[[nodiscard]] const Scheduler& scheduler_of(const SchedulerConfig& config);

// What the user asked for on top of a model's configuration. Empty members keep the model's.
struct SchedulerChoice {
  std::string scheduler = {};       // any name that find_scheduler knows, or "<name> karras"
  std::string sigma_schedule = {};  // leading, trailing, linspace, karras, exponential, beta
};

// The configuration that results: the file's values under the chosen scheduler class. `euler` on a
// flow model means flow-euler. Throws kInvalidArgument, with the list of known names, for an
// unknown one and for a scheduler of the other kind (flow and noise predictors do not mix),
// kUnsupported for a sigma schedule that the scheduler does not have.
[[nodiscard]] SchedulerConfig choose_scheduler(const JsonView& json, const SchedulerChoice& choice);

// The rows for a configuration. Throws kInvalidArgument for options out of range and kUnsupported
// for options that this scheduler does not take or whose numbers are not finite.
[[nodiscard]] Schedule make_schedule(const SchedulerConfig& config, const ScheduleOptions& options);

// Host form of the update, for tests: replaces `state` by the row's combination of state, output
// and noise (all of one length; noise may be empty when the row uses none).
void apply_row(const ScheduleRow& row, std::array<std::vector<float>, kMaxState>& state,
               std::span<const float> output, std::span<const float> noise);

}  // namespace halftone::diffusion
