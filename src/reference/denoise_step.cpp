#include "reference/ops.h"
#include "tensor/step_coefficients.h"

namespace halftone::reference {
namespace {

// Position of a field of StepCoefficients in its f32 tensor.
constexpr size_t kInputScale = 0;
constexpr size_t kGuidance = 1;
constexpr size_t kUpdate = 2;

}  // namespace

void run(const graph::ScaleInput& /*op*/, const Call& call) {
  const std::vector<float> state = load(call.need(graph::Role::kState));
  const auto scale = static_cast<double>(load(call.need(graph::Role::kCoefficients))[kInputScale]);
  const size_t sample = state.size() / kMaxState;
  std::vector<double> y(to_size(call.output().type.shape.num_elements()));
  for (size_t i = 0; i < y.size(); ++i) y[i] = scale * static_cast<double>(state[i % sample]);
  store(y, call.output());
}

void run(const graph::Guidance& /*op*/, const Call& call) {
  const std::vector<float> x = load(call.need(graph::Role::kX));
  const auto guidance = static_cast<double>(load(call.need(graph::Role::kCoefficients))[kGuidance]);
  std::vector<double> y(x.size() / 2);
  for (size_t i = 0; i < y.size(); ++i) {
    const auto uncond = static_cast<double>(x[i]);
    y[i] = uncond + guidance * (static_cast<double>(x[y.size() + i]) - uncond);
  }
  store(y, call.output());
}

void run(const graph::LinearUpdate& /*op*/, const Call& call) {
  const std::vector<float> state = load(call.need(graph::Role::kState));
  const std::vector<float> output = load(call.need(graph::Role::kX));
  const std::vector<float> noise = load(call.need(graph::Role::kNoise));
  const std::vector<float> coefficients = load(call.need(graph::Role::kCoefficients));
  const size_t sample = output.size();
  std::vector<double> y(state.size());
  for (size_t row = 0; row < kMaxState; ++row) {
    const float* update = coefficients.data() + kUpdate + row * (kMaxState + 2);
    for (size_t i = 0; i < sample; ++i) {
      double sum = 0.0;
      // A zero coefficient reads nothing: unused history may hold anything.
      const auto add = [&sum](float coefficient, float value) {
        if (coefficient != 0.0F)
          sum += static_cast<double>(coefficient) * static_cast<double>(value);
      };
      for (size_t j = 0; j < kMaxState; ++j) add(update[j], state[j * sample + i]);
      add(update[kMaxState], output[i]);
      add(update[kMaxState + 1], noise[i]);
      y[row * sample + i] = sum;
    }
  }
  store(y, call.output());
}

}  // namespace halftone::reference
