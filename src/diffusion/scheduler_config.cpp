#include "diffusion/scheduler_config.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "halftone/error.h"

#include "diffusion/scheduler.h"

namespace halftone::diffusion {
namespace {

constexpr int64_t kMaxTrainTimesteps = 100000;

[[noreturn]] void refuse(const JsonView& json, std::string_view class_name, std::string_view text) {
  throw Error(Errc::kUnsupported, fmt::format("{}: {}: {}", json.file(), class_name, text));
}

// The enumerator whose name is the value of `key`.
template <class Enum, size_t kCount>
Enum read_word(const JsonView& json, std::string_view class_name, std::string_view key,
               Enum fallback, const std::pair<std::string_view, Enum> (&words)[kCount]) {
  if (!json.has(key)) return fallback;
  const std::string word = json.at(key).string();
  std::string known;
  for (const auto& [name, value] : words) {
    if (name == word) return value;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", name);
  }
  refuse(json, class_name,
         fmt::format("{} '{}' is not implemented; wanted one of {}", key, word, known));
}

double positive(const JsonView& json, std::string_view key, double fallback) {
  const double value = json.number_or(key, fallback);
  if (!(value > 0)) json.at(key).fail(fmt::format("got {}, wanted a number above 0", value));
  return value;
}

std::optional<double> optional_positive(const JsonView& json, std::string_view key) {
  if (!json.has(key)) return std::nullopt;
  return positive(json, key, 0);
}

// Options that make the update depend on the latents other than linearly, or on data that a
// schedule does not have.
void refuse_what_is_not_linear(const JsonView& json, const Scheduler& scheduler,
                               const SchedulerConfig& defaults) {
  struct Refused {
    std::string_view key;
    bool value;
    std::string_view reason;
  };
  constexpr Refused kRefused[] = {
      {"thresholding", true, "dynamic thresholding clips by a quantile, which is no linear update"},
      {"use_dynamic_shifting", true, "shifting by the image size is not implemented"},
      {"use_flow_sigmas", true, "flow sigmas are implemented for FlowMatchEulerDiscreteScheduler"},
      {"invert_sigmas", true, "inverted sigmas are not implemented"},
      {"stochastic_sampling", true, "stochastic flow sampling is not implemented"},
      {"predict_x0", false, "the noise-predicting form of the solver is not implemented"},
  };
  for (const Refused& option : kRefused) {
    if (json.boolean_or(option.key, !option.value) == option.value) {
      refuse(json, scheduler.class_name,
             fmt::format("{} {}: {}", option.key, option.value, option.reason));
    }
  }
  for (std::string_view key : {"solver_p", "shift_terminal"}) {
    if (json.has(key)) {
      refuse(json, scheduler.class_name, fmt::format("{} is not implemented; remove it", key));
    }
  }
  // -Infinity clips nothing; it is what diffusers writes.
  const auto lambda_min = json.find("lambda_min_clipped");
  if (lambda_min && lambda_min->extended_number() != -std::numeric_limits<double>::infinity()) {
    refuse(json, scheduler.class_name,
           fmt::format("lambda_min_clipped {}: clipping is not implemented; wanted -Infinity",
                       lambda_min->extended_number()));
  }
  if (json.string_or("timestep_type", "discrete") != "discrete") {
    refuse(json, scheduler.class_name, "timestep_type continuous is not implemented");
  }
  if (scheduler.has_clip_sample && json.boolean_or("clip_sample", defaults.clip_sample)) {
    refuse(json, scheduler.class_name,
           "clip_sample true: clipping x0 is no linear update; set clip_sample to false, as latent "
           "models need it");
  }
}

void read_noise_table(const JsonView& json, SchedulerConfig& config) {
  config.num_train_timesteps =
      json.integer_or("num_train_timesteps", config.num_train_timesteps, 2, kMaxTrainTimesteps);
  config.beta_start = positive(json, "beta_start", config.beta_start);
  config.beta_end = positive(json, "beta_end", config.beta_end);
  if (config.beta_start > config.beta_end || config.beta_end >= 1) {
    json.fail(fmt::format("beta_start {} and beta_end {}: wanted 0 < start <= end < 1",
                          config.beta_start, config.beta_end));
  }
  config.beta_schedule =
      read_word<BetaSchedule>(json, config.class_name, "beta_schedule", config.beta_schedule,
                              {{"linear", BetaSchedule::kLinear},
                               {"scaled_linear", BetaSchedule::kScaledLinear},
                               {"squaredcos_cap_v2", BetaSchedule::kSquaredCosCapV2}});
  if (json.has("trained_betas")) {
    const JsonView betas = json.at("trained_betas");
    config.trained_betas = betas.numbers();
    const bool is_valid =
        static_cast<int64_t>(config.trained_betas.size()) == config.num_train_timesteps &&
        std::all_of(config.trained_betas.begin(), config.trained_betas.end(),
                    [](double b) { return b > 0 && b < 1; });
    if (!is_valid) {
      betas.fail(fmt::format("got {} values, wanted {} (num_train_timesteps), each between 0 and 1",
                             config.trained_betas.size(), config.num_train_timesteps));
    }
  }
  config.rescale_betas_zero_snr = json.boolean_or("rescale_betas_zero_snr", false);
}

SigmaSchedule read_sigma_schedule(const JsonView& json, bool has_lu) {
  SigmaSchedule result = SigmaSchedule::kNone;
  int count = 0;
  const std::pair<std::string_view, SigmaSchedule> flags[] = {
      {"use_karras_sigmas", SigmaSchedule::kKarras},
      {"use_exponential_sigmas", SigmaSchedule::kExponential},
      {"use_beta_sigmas", SigmaSchedule::kBeta},
      {"use_lu_lambdas", SigmaSchedule::kLu}};
  for (const auto& [key, schedule] : flags) {
    if (!json.boolean_or(key, false) || (schedule == SigmaSchedule::kLu && !has_lu)) continue;
    result = schedule;
    ++count;
  }
  if (count > 1) {
    json.fail(
        "more than one of use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas and "
        "use_lu_lambdas is true; wanted at most one");
  }
  return result;
}

void read_spacing(const JsonView& json, const Scheduler& scheduler, SchedulerConfig& config) {
  const std::string_view name = config.class_name;
  config.timestep_spacing =
      read_word<TimestepSpacing>(json, name, "timestep_spacing", config.timestep_spacing,
                                 {{"leading", TimestepSpacing::kLeading},
                                  {"trailing", TimestepSpacing::kTrailing},
                                  {"linspace", TimestepSpacing::kLinspace}});
  config.steps_offset = json.integer_or("steps_offset", 0, 0, config.num_train_timesteps - 1);
  config.log_linear_sigmas = read_word<bool>(json, name, "interpolation_type", false,
                                             {{"linear", false}, {"log_linear", true}});
  if (scheduler.has_sigma_schedules)
    config.sigma_schedule = read_sigma_schedule(json, name == "DPMSolverMultistepScheduler");
  config.sigma_min = optional_positive(json, "sigma_min");
  config.sigma_max = optional_positive(json, "sigma_max");
  config.final_sigma =
      read_word<FinalSigma>(json, name, "final_sigmas_type", FinalSigma::kZero,
                            {{"zero", FinalSigma::kZero}, {"sigma_min", FinalSigma::kSigmaMin}});
  config.shift = positive(json, "shift", config.shift);
  config.original_inference_steps = json.integer_or(
      "original_inference_steps", config.original_inference_steps, 1, config.num_train_timesteps);
  config.timestep_scaling = positive(json, "timestep_scaling", config.timestep_scaling);
}

void read_update_rule(const JsonView& json, SchedulerConfig& config) {
  const std::string_view name = config.class_name;
  config.prediction_type =
      read_word<PredictionType>(json, name, "prediction_type", config.prediction_type,
                                {{"epsilon", PredictionType::kEpsilon},
                                 {"v_prediction", PredictionType::kVPrediction},
                                 {"sample", PredictionType::kSample}});
  config.set_alpha_to_one = json.boolean_or("set_alpha_to_one", config.set_alpha_to_one);
  config.skip_prk_steps = json.boolean_or("skip_prk_steps", config.skip_prk_steps);
  config.solver_order = json.integer_or("solver_order", config.solver_order, 1, 16);
  config.solver_type = json.string_or("solver_type", config.solver_type);
  config.algorithm_type = json.string_or("algorithm_type", config.algorithm_type);
  config.variance_type = json.string_or("variance_type", config.variance_type);
  config.lower_order_final = json.boolean_or("lower_order_final", config.lower_order_final);
  config.euler_at_final = json.boolean_or("euler_at_final", config.euler_at_final);
  if (json.has("disable_corrector")) {
    config.disable_corrector = json.at("disable_corrector").integers(0);
  }
}

}  // namespace

SchedulerConfig parse_scheduler_config(const JsonView& json) {
  return parse_scheduler_config(json, json.at("_class_name").string());
}

SchedulerConfig parse_scheduler_config(const JsonView& json, std::string_view class_name) {
  const Scheduler* scheduler = find_scheduler(class_name);
  if (scheduler == nullptr || scheduler->class_name != class_name) {
    std::string known;
    for (const Scheduler* s : schedulers()) {
      if (known.find(s->class_name) == std::string::npos) {
        known += fmt::format("{}{}", known.empty() ? "" : ", ", s->class_name);
      }
    }
    refuse(json, class_name, fmt::format("unknown scheduler class; wanted one of {}", known));
  }
  SchedulerConfig config = scheduler->defaults();
  config.class_name = class_name;
  if (json.string_or("_class_name", "") != class_name) {
    // diffusers' defaults of these are for models of pixels. A latent model's file that names one
    // of their classes always overrides them, one that names another class need not know them.
    config.clip_sample = false;
    config.skip_prk_steps = true;
  }
  refuse_what_is_not_linear(json, *scheduler, config);
  config.clip_sample = false;
  read_noise_table(json, config);
  read_spacing(json, *scheduler, config);
  read_update_rule(json, config);
  return config;
}

}  // namespace halftone::diffusion
