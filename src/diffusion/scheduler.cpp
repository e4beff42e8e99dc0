#include "diffusion/scheduler.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "halftone/error.h"

namespace halftone::diffusion {

#define HALFTONE_SCHEDULER(name) extern const Scheduler name;  // NOLINT(bugprone-macro-parentheses)
#include "diffusion/schedulers/schedulers.inc"
#undef HALFTONE_SCHEDULER

namespace {

#define HALFTONE_SCHEDULER(name) &name,
constexpr const Scheduler* kSchedulers[] = {
#include "diffusion/schedulers/schedulers.inc"
};
#undef HALFTONE_SCHEDULER

struct SigmaWord {
  std::string_view name;
  bool is_spacing;
};
constexpr SigmaWord kSigmaWords[] = {{"leading", true}, {"trailing", true},     {"linspace", true},
                                     {"karras", false}, {"exponential", false}, {"beta", false}};

// Lower case, with '-' for '_' and ' '.
std::string normalise(std::string_view name) {
  std::string result(name);
  for (char& c : result) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if (c == '_' || c == ' ') c = '-';
  }
  return result;
}

std::string known_names() {
  std::string names;
  for (const Scheduler* scheduler : schedulers()) {
    names += fmt::format("{}{}", names.empty() ? "" : ", ", scheduler->name);
  }
  return names;
}

const SigmaWord* find_sigma_word(std::string_view name) {
  const auto* word = std::find_if(std::begin(kSigmaWords), std::end(kSigmaWords),
                                  [name](const SigmaWord& w) { return w.name == name; });
  return word == std::end(kSigmaWords) ? nullptr : word;
}

// Splits "dpm++-2m-karras" into the scheduler and the sigma word.
SchedulerChoice split_choice(const SchedulerChoice& choice) {
  SchedulerChoice result = {normalise(choice.scheduler), normalise(choice.sigma_schedule)};
  if (find_scheduler(result.scheduler) != nullptr) return result;
  const size_t dash = result.scheduler.rfind('-');
  if (dash == std::string::npos) return result;
  const std::string word = result.scheduler.substr(dash + 1);
  if (find_sigma_word(word) == nullptr) return result;
  result.scheduler.resize(dash);
  if (result.sigma_schedule.empty()) result.sigma_schedule = word;
  return result;
}

void apply_sigma_word(SchedulerConfig& config, const Scheduler& scheduler, std::string_view name) {
  const SigmaWord* word = find_sigma_word(name);
  if (word == nullptr) {
    std::string names;
    for (const SigmaWord& w : kSigmaWords) {
      names += fmt::format("{}{}", names.empty() ? "" : ", ", w.name);
    }
    throw Error(Errc::kInvalidArgument,
                fmt::format("sigma schedule: got '{}', wanted one of {}", name, names));
  }
  const bool respaces = scheduler.has_sigma_schedules || scheduler.can_respace_sigmas;
  if (word->is_spacing ? scheduler.is_flow : !respaces) {
    throw Error(
        Errc::kUnsupported,
        fmt::format("sigma schedule: {} is not available for scheduler {}", name, scheduler.name));
  }
  if (word->is_spacing) {
    config.timestep_spacing = name == "leading"    ? TimestepSpacing::kLeading
                              : name == "trailing" ? TimestepSpacing::kTrailing
                                                   : TimestepSpacing::kLinspace;
  } else {
    config.sigma_schedule = name == "karras"        ? SigmaSchedule::kKarras
                            : name == "exponential" ? SigmaSchedule::kExponential
                                                    : SigmaSchedule::kBeta;
  }
}

void check_finite(const Schedule& schedule, std::string_view name) {
  for (const ScheduleRow& row : schedule.rows) {
    const StepCoefficients& c = row.coefficients;
    const bool is_finite =
        std::isfinite(c.input_scale) && std::isfinite(row.timestep) &&
        std::all_of(std::begin(c.update), std::end(c.update), [](const auto& weights) {
          return std::all_of(std::begin(weights), std::end(weights),
                             [](float w) { return std::isfinite(w); });
        });
    if (!is_finite) {
      throw Error(
          Errc::kUnsupported,
          fmt::format("scheduler {}: the step at timestep {} has no finite update with this "
                      "configuration; try another spacing or number of steps, or "
                      "lower_order_final true",
                      name, row.timestep));
    }
  }
}

}  // namespace

std::span<const Scheduler* const> schedulers() { return kSchedulers; }

const Scheduler* find_scheduler(std::string_view name) {
  const std::string wanted = normalise(name);
  for (const Scheduler* scheduler : schedulers()) {
    if (wanted == scheduler->name || wanted == normalise(scheduler->class_name) ||
        std::count(scheduler->aliases.begin(), scheduler->aliases.end(), wanted) != 0) {
      return scheduler;
    }
  }
  return nullptr;
}

SchedulerConfig choose_scheduler(const JsonView& json, const SchedulerChoice& choice) {
  const SchedulerChoice words = split_choice(choice);
  const std::string model_class = json.string_or("_class_name", "");
  const Scheduler* of_model = find_scheduler(model_class);
  const Scheduler* scheduler = of_model;
  if (!words.scheduler.empty()) {
    scheduler = find_scheduler(words.scheduler);
    if (scheduler == nullptr) {
      throw Error(Errc::kInvalidArgument, fmt::format("scheduler: got '{}', wanted one of {}",
                                                      choice.scheduler, known_names()));
    }
    const bool is_flow_model = of_model != nullptr && of_model->is_flow;
    if (is_flow_model && scheduler->name == "euler") scheduler = of_model;
    if (scheduler->is_flow != is_flow_model) {
      throw Error(Errc::kInvalidArgument,
                  fmt::format("scheduler: {} is for models that predict {}, but {} says {}",
                              scheduler->name, scheduler->is_flow ? "a flow" : "noise", json.file(),
                              model_class.empty() ? "nothing" : model_class));
    }
  }
  SchedulerConfig config = scheduler == nullptr
                               ? parse_scheduler_config(json)
                               : parse_scheduler_config(json, scheduler->class_name);
  if (scheduler == nullptr) scheduler = find_scheduler(config.class_name);
  if (!scheduler->algorithm_type.empty()) config.algorithm_type = scheduler->algorithm_type;
  if (!words.sigma_schedule.empty()) apply_sigma_word(config, *scheduler, words.sigma_schedule);
  return config;
}

const Scheduler& scheduler_of(const SchedulerConfig& config) {
  const Scheduler* of_class = nullptr;
  for (const Scheduler* scheduler : schedulers()) {
    if (scheduler->class_name != config.class_name) continue;
    if (scheduler->algorithm_type == config.algorithm_type) return *scheduler;
    if (of_class == nullptr) of_class = scheduler;
  }
  if (of_class == nullptr) {
    throw Error(Errc::kUnsupported,
                fmt::format("scheduler class '{}' is not implemented; known: {}", config.class_name,
                            known_names()));
  }
  return *of_class;
}

Schedule make_schedule(const SchedulerConfig& config, const ScheduleOptions& options) {
  const Scheduler& scheduler = scheduler_of(config);
  Schedule schedule = scheduler.schedule(config, options);
  check_finite(schedule, scheduler.name);
  return schedule;
}

void apply_row(const ScheduleRow& row, std::array<std::vector<float>, kMaxState>& state,
               std::span<const float> output, std::span<const float> noise) {
  const size_t n = state[0].size();
  check_internal(output.size() == n && (!row.uses_noise || noise.size() == n),
                 "apply_row: output or noise has another length than the sample");
  for (std::vector<float>& latent : state) latent.resize(n);
  for (size_t i = 0; i < n; ++i) {
    std::array<float, kMaxState> next{};
    for (size_t slot = 0; slot < kMaxState; ++slot) {
      const float* weights = row.coefficients.update[slot];
      float sum = 0;
      for (size_t j = 0; j < kMaxState; ++j) sum += weights[j] * state[j][i];
      sum += weights[kMaxState] * output[i];
      if (row.uses_noise) sum += weights[kMaxState + 1] * noise[i];
      next[slot] = sum;
    }
    for (size_t slot = 0; slot < kMaxState; ++slot) state[slot][i] = next[slot];
  }
}

}  // namespace halftone::diffusion
