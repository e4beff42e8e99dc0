// Helpers of the scheduler files: checked options, shared row shapes.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>
#include <vector>

#include "diffusion/linear_form.h"
#include "diffusion/noise_table.h"
#include "diffusion/scheduler.h"

namespace halftone::diffusion {

struct RowSpec {
  double timestep = 0;
  double input_scale = 1;
  bool uses_noise = false;
  double signal_scale = 1;
  double noise_scale = 0;
};

// A row whose next state_i is next[i]; further slots become zero.
[[nodiscard]] ScheduleRow make_row(const RowSpec& spec, std::initializer_list<LinearForm> next);

// First evaluation to run under options.strength, diffusers' get_timesteps: steps - int(steps *
// strength). Throws kInvalidArgument when nothing is left.
[[nodiscard]] int64_t first_step(const ScheduleOptions& options, int64_t num_steps);

// Throws kUnsupported when the user gave timesteps or sigmas that this scheduler does not take.
void refuse_custom(const ScheduleOptions& options, std::string_view scheduler, bool takes_timesteps,
                   bool takes_sigmas);

// num_steps, checked to lie in 1..limit.
[[nodiscard]] int64_t checked_num_steps(const ScheduleOptions& options, int64_t limit);

// The user's timesteps as integers: descending, within the training steps.
[[nodiscard]] std::vector<double> checked_timesteps(const ScheduleOptions& options,
                                                    int64_t num_train_timesteps);

// x0 from the model's output, for x = sqrt(alpha) x0 + sqrt(1 - alpha) epsilon.
[[nodiscard]] LinearForm predict_x0(PredictionType type, double alpha, const LinearForm& x,
                                    const LinearForm& output);

// d x / d sigma for x = x0 + sigma * epsilon (Euler, LMS).
[[nodiscard]] LinearForm derivative(PredictionType type, double sigma, const LinearForm& x,
                                    const LinearForm& output);

// Timesteps and sigmas of a schedule; sigmas end with the final value.
struct SigmaTable {
  std::vector<double> timesteps;
  std::vector<float> sigmas;
  float init_noise_sigma = 1;
};
// Of Euler, Euler ancestral and LMS: x = x0 + sigma * epsilon.
[[nodiscard]] SigmaTable euler_table(const SchedulerConfig& config, const ScheduleOptions& options);
// Of the log-SNR solvers UniPC and DPM++, whose samples are variance preserving.
enum class SolverFlavour : uint8_t { kUniPC, kDpm };
[[nodiscard]] SigmaTable solver_table(const SchedulerConfig& config, const ScheduleOptions& options,
                                      SolverFlavour flavour);

// The schedule of a table, its rows still to be made from first_step on.
[[nodiscard]] Schedule begin_schedule(const SigmaTable& table, const ScheduleOptions& options);

// Row of step i for x = x0 + sigma * epsilon; the model sees x / sqrt(sigma^2 + 1).
[[nodiscard]] RowSpec sigma_row(const SigmaTable& table, size_t i);
// Row of step i for a variance-preserving sample at sigma.
[[nodiscard]] RowSpec solver_row(const SigmaTable& table, size_t i);
// Row for x = sqrt(alpha) x0 + sqrt(1 - alpha) epsilon.
[[nodiscard]] RowSpec alpha_row(double timestep, double alpha);

// alpha, sigma and lambda = log(alpha / sigma) of a variance-preserving sample at noise level
// sigma.
struct SolverPoint {
  double alpha = 1;
  double sigma = 0;
  double lambda = 0;
  explicit SolverPoint(double table_sigma);
};

}  // namespace halftone::diffusion
