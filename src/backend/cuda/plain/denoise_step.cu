// The f32 ends of a denoising step, and the sinusoids of the timestep.
#include "backend/cuda/launch.h"
#include "backend/cuda/plain/device.cuh"
#include "backend/cuda/plain/overlap.cuh"
#include "tensor/step_coefficients.h"

namespace halftone::backend::cuda {
namespace {

constexpr int kThreads = 256;

// In double: the angle of a large timestep needs it, and there are few.
__global__ void sinusoidal_kernel(const __grid_constant__ SinusoidalArgs a) {
  follow_previous_kernel();
  const int64_t total = a.count * a.half;
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < total;
       i += gridDim.x * int64_t{kThreads}) {
    const int64_t row = i / a.half;
    const int64_t k = i - row * a.half;
    const double exponent =
        -a.log_max_period * static_cast<double>(k) / (static_cast<double>(a.half) - a.freq_shift);
    const double angle = static_cast<double>(a.x[row]) * exp(exponent);
    float* y = a.y + row * 2 * a.half;
    y[(a.cos_first ? a.half : 0) + k] = static_cast<float>(sin(angle));
    y[(a.cos_first ? 0 : a.half) + k] = static_cast<float>(cos(angle));
  }
}

__global__ void scale_input_kernel(const float* state, const float* coefficients, float* y,
                                   int64_t sample, int64_t copies) {
  follow_previous_kernel();
  const float scale = reinterpret_cast<const StepCoefficients*>(coefficients)->input_scale;
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < sample;
       i += gridDim.x * int64_t{kThreads}) {
    const float v = scale * state[i];
    for (int64_t copy = 0; copy < copies; ++copy) y[copy * sample + i] = v;
  }
}

__global__ void guidance_kernel(const float* x, const float* coefficients, float* y, int64_t half) {
  follow_previous_kernel();
  const float guidance = reinterpret_cast<const StepCoefficients*>(coefficients)->guidance;
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < half;
       i += gridDim.x * int64_t{kThreads}) {
    y[i] = fmaf(guidance, x[half + i] - x[i], x[i]);
  }
}

// Reads all of an element before it writes: the new state may lie where the old one does. A zero
// coefficient reads nothing: unused history may hold anything.
__global__ void linear_update_kernel(const float* state, const float* output, const float* noise,
                                     const float* coefficients, float* y, int64_t sample) {
  follow_previous_kernel();
  const auto& update = reinterpret_cast<const StepCoefficients*>(coefficients)->update;
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < sample;
       i += gridDim.x * int64_t{kThreads}) {
    float next[kMaxState];
    for (int row = 0; row < kMaxState; ++row) {
      float sum = 0;
      const auto add = [&](float c, const float* v, int64_t at) {
        if (c != 0.0F) sum = fmaf(c, v[at], sum);
      };
      for (int j = 0; j < kMaxState; ++j) add(update[row][j], state, j * sample + i);
      add(update[row][kMaxState], output, i);
      add(update[row][kMaxState + 1], noise, i);
      next[row] = sum;
    }
    for (int row = 0; row < kMaxState; ++row) y[row * sample + i] = next[row];
  }
}

}  // namespace

void launch_sinusoidal(const SinusoidalArgs& a, cudaStream_t stream) {
  if (a.count * a.half == 0) return;
  launch("sinusoidal", sinusoidal_kernel, dim3(num_blocks(a.count * a.half, kThreads)), kThreads, 0,
         stream, a);
}

void launch_scale_input(const float* state, const float* coefficients, float* y, int64_t sample,
                        int64_t copies, cudaStream_t stream) {
  if (sample == 0) return;
  launch("scale_input", scale_input_kernel, dim3(num_blocks(sample, kThreads)), kThreads, 0, stream,
         state, coefficients, y, sample, copies);
}

void launch_guidance(const float* x, const float* coefficients, float* y, int64_t half,
                     cudaStream_t stream) {
  if (half == 0) return;
  launch("guidance", guidance_kernel, dim3(num_blocks(half, kThreads)), kThreads, 0, stream, x,
         coefficients, y, half);
}

void launch_linear_update(const float* state, const float* output, const float* noise,
                          const float* coefficients, float* y, int64_t sample,
                          cudaStream_t stream) {
  if (sample == 0) return;
  launch("linear_update", linear_update_kernel, dim3(num_blocks(sample, kThreads)), kThreads, 0,
         stream, state, output, noise, coefficients, y, sample);
}

}  // namespace halftone::backend::cuda
