// UniPC predictor-corrector of order 1 to 3 predicting x0 (UniPCMultistepScheduler).
// A row first corrects the sample with the new model output, then predicts the next one. State: the
// predicted sample, the corrected sample of the step before, the last three x0 predictions.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "halftone/error.h"

#include "diffusion/rows.h"

namespace halftone::diffusion {
namespace {

constexpr int kMaxOrder = 3;
constexpr int kLastSample = 1;
constexpr int kNewestPrediction = 2;
using Row = std::array<double, kMaxOrder>;

// Solves the n x n system m r = b by elimination with pivoting.
Row solve(std::array<Row, kMaxOrder> m, Row b, size_t n) {
  for (size_t column = 0; column < n; ++column) {
    size_t pivot = column;
    for (size_t r = column + 1; r < n; ++r) {
      if (std::fabs(m[r][column]) > std::fabs(m[pivot][column])) pivot = r;
    }
    std::swap(m[pivot], m[column]);
    std::swap(b[pivot], b[column]);
    for (size_t r = column + 1; r < n; ++r) {
      const double factor = m[r][column] / m[column][column];
      for (size_t c = column; c < n; ++c) m[r][c] -= factor * m[column][c];
      b[r] -= factor * b[column];
    }
  }
  for (size_t r = n; r-- > 0;) {
    for (size_t c = r + 1; c < n; ++c) b[r] -= m[r][c] * b[c];
    b[r] /= m[r][r];
  }
  return b;
}

// One step from sigmas[from] to sigmas[from + 1] with B(h) of `bh2` or `bh1`.
class Step {
 public:
  Step(const std::vector<float>& sigmas, size_t from, int order, bool is_bh2)
      : order_(static_cast<size_t>(order)),
        start_(static_cast<double>(sigmas[from])),
        end_(static_cast<double>(sigmas[from + 1])) {
    const double h = end_.lambda - start_.lambda;
    phi_ = std::expm1(-h);
    b_of_h_ = is_bh2 ? phi_ : -h;
    for (size_t i = 1; i < order_; ++i) {
      const SolverPoint earlier(static_cast<double>(sigmas[from - i]));
      ratios_[i - 1] = (earlier.lambda - start_.lambda) / h;
    }
    ratios_[order_ - 1] = 1.0;
    double phi_k = phi_ / -h - 1;
    double factorial = 1;
    for (size_t k = 0; k < order_; ++k) {
      for (size_t j = 0; j < order_; ++j) powers_[k][j] = std::pow(ratios_[j], k);
      targets_[k] = phi_k * factorial / b_of_h_;
      factorial *= static_cast<double>(k + 2);
      phi_k = phi_k / -h - 1 / factorial;
    }
  }

  // m[0] is the x0 prediction at the start of the step, m[1], m[2] the earlier ones.
  [[nodiscard]] LinearForm predict(const LinearForm& x, const std::array<LinearForm, 3>& m) const {
    // diffusers sets the single weight of order 2 to its limit 1/2.
    const Row rho = order_ == 2 ? Row{0.5} : solve(powers_, targets_, order_ - 1);
    return base(x, m[0]) - end_.alpha * b_of_h_ * differences(m, rho);
  }
  // `current` is the x0 prediction at the end of the step.
  [[nodiscard]] LinearForm correct(const LinearForm& x, const std::array<LinearForm, 3>& m,
                                   const LinearForm& current) const {
    const Row rho = order_ == 1 ? Row{0.5} : solve(powers_, targets_, order_);
    return base(x, m[0]) -
           end_.alpha * b_of_h_ * (differences(m, rho) + rho[order_ - 1] * (current - m[0]));
  }

 private:
  [[nodiscard]] LinearForm base(const LinearForm& x, const LinearForm& m0) const {
    return end_.sigma / start_.sigma * x - end_.alpha * phi_ * m0;
  }
  [[nodiscard]] LinearForm differences(const std::array<LinearForm, 3>& m, const Row& rho) const {
    LinearForm sum;
    for (size_t i = 1; i < order_; ++i) sum += rho[i - 1] / ratios_[i - 1] * (m[i] - m[0]);
    return sum;
  }

  size_t order_;
  SolverPoint start_;
  SolverPoint end_;
  double phi_ = 0;
  double b_of_h_ = 0;
  Row ratios_{};
  std::array<Row, kMaxOrder> powers_{};
  Row targets_{};
};

bool uses_corrector(const SchedulerConfig& config, size_t i, size_t first) {
  const auto previous = static_cast<int64_t>(i) - 1;
  return i > first && std::count(config.disable_corrector.begin(), config.disable_corrector.end(),
                                 previous) == 0;
}

Schedule schedule(const SchedulerConfig& config, const ScheduleOptions& options) {
  refuse_custom(options, "unipc", false, false);
  if (config.solver_order > kMaxOrder) {
    throw Error(Errc::kUnsupported,
                fmt::format("scheduler unipc: solver_order {} is not implemented; wanted 1 to {}",
                            config.solver_order, kMaxOrder));
  }
  const bool is_bh2 = config.solver_type != "bh1";
  const SigmaTable table = solver_table(config, options, SolverFlavour::kUniPC);
  const size_t num_steps = table.timesteps.size();
  Schedule result = begin_schedule(table, options);
  const auto first = static_cast<size_t>(result.first_step);
  const std::array<LinearForm, 3> earlier = {LinearForm::state(kNewestPrediction),
                                             LinearForm::state(kNewestPrediction + 1),
                                             LinearForm::state(kNewestPrediction + 2)};
  int previous_order = 1;
  for (size_t i = first; i < num_steps; ++i) {
    const SolverPoint here(static_cast<double>(table.sigmas[i]));
    const LinearForm m = predict_x0(config.prediction_type, here.alpha * here.alpha,
                                    LinearForm::state(0), LinearForm::output());
    LinearForm x = LinearForm::state(0);
    if (uses_corrector(config, i, first)) {
      const Step last(table.sigmas, i - 1, previous_order, is_bh2);
      x = last.correct(LinearForm::state(kLastSample), earlier, m);
    }
    auto order = static_cast<size_t>(config.solver_order);
    if (config.lower_order_final) order = std::min(order, num_steps - i);
    order = std::min(order, i - first + 1);
    const Step step(table.sigmas, i, static_cast<int>(order), is_bh2);
    const LinearForm next = step.predict(x, {m, earlier[0], earlier[1]});
    result.rows.push_back(make_row(solver_row(table, i), {next, x, m, earlier[0], earlier[1]}));
    previous_order = static_cast<int>(order);
  }
  return result;
}

SchedulerConfig defaults() {
  SchedulerConfig config;
  config.solver_type = "bh2";
  return config;
}

constexpr std::string_view kAliases[] = {"uni-pc", "uni-pc-bh2"};

}  // namespace

extern const Scheduler kUniPC;
const Scheduler kUniPC = {
    .name = "unipc",
    .class_name = "UniPCMultistepScheduler",
    .aliases = kAliases,
    .has_sigma_schedules = true,
    .defaults = defaults,
    .schedule = schedule,
};

}  // namespace halftone::diffusion
