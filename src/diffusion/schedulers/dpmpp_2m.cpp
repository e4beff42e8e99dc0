// DPM-Solver++ multistep of order 1 to 3 and its stochastic form of order 1 and 2
// (DPMSolverMultistepScheduler). State: the sample and the last two x0 predictions, newest first.
#include <cmath>

#include <fmt/format.h>

#include "halftone/error.h"

#include "diffusion/rows.h"

namespace halftone::diffusion {
namespace {

struct Solver {
  bool is_sde = false;
  bool is_heun = false;
};

// One update of the given order from sigmas[i] to sigmas[i + 1]; m0 is the current x0 prediction.
LinearForm update(const Solver& solver, const std::vector<float>& sigmas, size_t i, int order,
                  const LinearForm& m0) {
  const auto point = [&sigmas](size_t k) { return SolverPoint(static_cast<double>(sigmas[k])); };
  const SolverPoint t = point(i + 1);
  const SolverPoint s0 = point(i);
  const double h = t.lambda - s0.lambda;
  const double g = solver.is_sde ? 2 * h : h;
  const double phi = std::expm1(-g);
  const double decay = solver.is_sde ? std::exp(-h) : 1.0;
  LinearForm next = t.sigma / s0.sigma * decay * LinearForm::state(0) - t.alpha * phi * m0;
  if (solver.is_sde) next += t.sigma * std::sqrt(-phi) * LinearForm::noise();
  if (order == 1) return next;
  const LinearForm m1 = LinearForm::state(1);
  const double r0 = (s0.lambda - point(i - 1).lambda) / h;
  const LinearForm newer = 1 / r0 * (m0 - m1);
  const double first_order = t.alpha * (phi / g + 1);
  if (order == 2) return next + (solver.is_heun ? first_order : -0.5 * t.alpha * phi) * newer;
  const LinearForm m2 = LinearForm::state(2);
  const double r1 = (point(i - 1).lambda - point(i - 2).lambda) / h;
  const LinearForm older = 1 / r1 * (m1 - m2);
  const LinearForm d1 = newer + r0 / (r0 + r1) * (newer - older);
  const LinearForm d2 = 1 / (r0 + r1) * (newer - older);
  return next + first_order * d1 - t.alpha * ((phi + h) / (h * h) - 0.5) * d2;
}

// Order of step i of n, `done` steps after entering the schedule.
int step_order(const SchedulerConfig& config, size_t i, size_t n, size_t done) {
  constexpr size_t kFewSteps = 15;
  const bool is_short = config.lower_order_final && n < kFewSteps;
  const bool ends_at_zero = config.final_sigma == FinalSigma::kZero;
  if (config.solver_order == 1 || done < 1) return 1;
  if (i == n - 1 && (config.euler_at_final || is_short || ends_at_zero)) return 1;
  if (config.solver_order == 2 || done < 2 || (i == n - 2 && is_short)) return 2;
  return 3;
}

Solver read_solver(const SchedulerConfig& config) {
  Solver solver;
  solver.is_sde = config.algorithm_type == "sde-dpmsolver++";
  solver.is_heun = config.solver_type == "heun";
  const bool is_plain = config.algorithm_type == "dpmsolver++" || config.algorithm_type == "deis";
  if (!solver.is_sde && !is_plain) {
    throw Error(Errc::kUnsupported,
                fmt::format("scheduler dpmpp-2m: algorithm_type '{}' is not implemented; wanted "
                            "dpmsolver++ or sde-dpmsolver++",
                            config.algorithm_type));
  }
  if (config.solver_order > (solver.is_sde ? 2 : 3)) {
    throw Error(Errc::kUnsupported,
                fmt::format("scheduler dpmpp-2m: solver_order {} is not implemented for {}",
                            config.solver_order, config.algorithm_type));
  }
  return solver;
}

Schedule schedule(const SchedulerConfig& config, const ScheduleOptions& options) {
  refuse_custom(options, "dpmpp-2m", true, false);
  const Solver solver = read_solver(config);
  const SigmaTable table = solver_table(config, options, SolverFlavour::kDpm);
  const size_t num_steps = table.timesteps.size();
  Schedule result = begin_schedule(table, options);
  const auto first = static_cast<size_t>(result.first_step);
  for (size_t i = first; i < num_steps; ++i) {
    const SolverPoint here(static_cast<double>(table.sigmas[i]));
    const LinearForm m0 = predict_x0(config.prediction_type, here.alpha * here.alpha,
                                     LinearForm::state(0), LinearForm::output());
    const int order = step_order(config, i, num_steps, i - first);
    RowSpec spec = solver_row(table, i);
    spec.uses_noise = solver.is_sde && table.sigmas[i + 1] > 0;
    result.rows.push_back(
        make_row(spec, {update(solver, table.sigmas, i, order, m0), m0, LinearForm::state(1)}));
  }
  return result;
}

SchedulerConfig defaults() {
  SchedulerConfig config;
  config.algorithm_type = "dpmsolver++";
  config.solver_type = "midpoint";
  return config;
}

constexpr std::string_view kAliases[] = {"dpm++-2m", "dpm++2m", "k-dpmpp-2m", "dpmpp2m"};
constexpr std::string_view kSdeAliases[] = {"dpm++-2m-sde", "dpm++2m-sde", "k-dpmpp-2m-sde",
                                            "dpmpp2m-sde"};

}  // namespace

extern const Scheduler kDpmpp2m;
const Scheduler kDpmpp2m = {
    .name = "dpmpp-2m",
    .class_name = "DPMSolverMultistepScheduler",
    .aliases = kAliases,
    .has_sigma_schedules = true,
    .defaults = defaults,
    .schedule = schedule,
};

extern const Scheduler kDpmpp2mSde;
const Scheduler kDpmpp2mSde = {
    .name = "dpmpp-2m-sde",
    .class_name = "DPMSolverMultistepScheduler",
    .aliases = kSdeAliases,
    .has_sigma_schedules = true,
    .algorithm_type = "sde-dpmsolver++",
    .defaults = defaults,
    .schedule = schedule,
};

}  // namespace halftone::diffusion
