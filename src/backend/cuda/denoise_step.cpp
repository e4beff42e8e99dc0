// The f32 ends of a denoising step, and the bytes of a picture (plain/denoise_step.cu,
// plain/to_bytes.cu).
#include <cmath>

#include "backend/cuda/call.h"
#include "backend/cuda/kernels.h"
#include "tensor/step_coefficients.h"

namespace halftone::backend::cuda {
namespace {

using graph::Role;

Support supports_f32(const graph::OpDesc& desc, const DeviceInfo& /*info*/) {
  for (const graph::TypedOperand& operand : desc.inputs) {
    if (operand.type.dtype != DType::kF32) return Support::no("wants f32 operands");
  }
  return Support::yes();
}

const float* floats(const graph::OpDesc& desc, const Operands& operands, Role role) {
  return find_view(desc, operands, role)->as<const float>();
}

std::unique_ptr<Launch> prepare_sinusoidal(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                           Config /*config*/, const Operands& operands) {
  const auto& op = desc.as<graph::Sinusoidal>();
  SinusoidalArgs args;
  args.x = floats(desc, operands, Role::kX);
  args.y = operands.outputs[0].as<float>();
  args.count = desc.input(Role::kX)->shape.num_elements();
  args.half = op.dim / 2;
  args.cos_first = op.flip_sin_to_cos;
  args.freq_shift = op.freq_shift;
  args.log_max_period = std::log(op.max_period);
  return make_launch([args](cudaStream_t stream) { launch_sinusoidal(args, stream); });
}

std::unique_ptr<Launch> prepare_scale_input(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                            Config /*config*/, const Operands& operands) {
  const float* state = floats(desc, operands, Role::kState);
  const float* coefficients = floats(desc, operands, Role::kCoefficients);
  auto* y = operands.outputs[0].as<float>();
  const int64_t sample = desc.input(Role::kState)->shape.num_elements() / kMaxState;
  const int64_t copies = desc.as<graph::ScaleInput>().copies;
  return make_launch([=](cudaStream_t stream) {
    launch_scale_input(state, coefficients, y, sample, copies, stream);
  });
}

std::unique_ptr<Launch> prepare_guidance(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                         Config /*config*/, const Operands& operands) {
  const float* x = floats(desc, operands, Role::kX);
  const float* coefficients = floats(desc, operands, Role::kCoefficients);
  auto* y = operands.outputs[0].as<float>();
  const int64_t half = desc.output().shape.num_elements();
  return make_launch(
      [=](cudaStream_t stream) { launch_guidance(x, coefficients, y, half, stream); });
}

std::unique_ptr<Launch> prepare_linear_update(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                              Config /*config*/, const Operands& operands) {
  const float* state = floats(desc, operands, Role::kState);
  const float* output = floats(desc, operands, Role::kX);
  const float* noise = floats(desc, operands, Role::kNoise);
  const float* coefficients = floats(desc, operands, Role::kCoefficients);
  auto* y = operands.outputs[0].as<float>();
  const int64_t sample = desc.input(Role::kX)->shape.num_elements();
  return make_launch([=](cudaStream_t stream) {
    launch_linear_update(state, output, noise, coefficients, y, sample, stream);
  });
}

std::unique_ptr<Launch> prepare_to_bytes(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                         Config /*config*/, const Operands& operands) {
  const float* x = floats(desc, operands, Role::kX);
  auto* y = operands.outputs[0].as<uint8_t>();
  auto* flag = operands.outputs[1].as<float>();
  const int64_t count = desc.output().shape.num_elements();
  return make_launch([=](cudaStream_t stream) { launch_to_bytes(x, y, flag, count, stream); });
}

}  // namespace

const Kernel to_bytes_plain =
    plain_kernel("cuda.to_bytes.plain", graph::OpKind::kToBytes, supports_f32, prepare_to_bytes);
const Kernel sinusoidal_plain = plain_kernel("cuda.sinusoidal.plain", graph::OpKind::kSinusoidal,
                                             supports_f32, prepare_sinusoidal);
const Kernel scale_input_plain = plain_kernel("cuda.scale_input.plain", graph::OpKind::kScaleInput,
                                              supports_f32, prepare_scale_input);
const Kernel guidance_plain =
    plain_kernel("cuda.guidance.plain", graph::OpKind::kGuidance, supports_f32, prepare_guidance);
const Kernel linear_update_plain = plain_kernel(
    "cuda.linear_update.plain", graph::OpKind::kLinearUpdate, supports_f32, prepare_linear_update);

}  // namespace halftone::backend::cuda
