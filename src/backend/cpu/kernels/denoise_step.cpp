// The few f32 ops around the denoiser: input scaling, guidance, scheduler update.
#include <algorithm>

#include "backend/cpu/call.h"
#include "backend/cpu/kernels.h"
#include "tensor/step_coefficients.h"

namespace halftone::backend::cpu {
namespace {

constexpr int64_t kPiece = 1024;

// f(first, count) over [0, n).
template <class F>
void for_pieces(int64_t n, F f) {
  for (int64_t i = 0; i < n; i += kPiece) f(i, std::min(kPiece, n - i));
}

Support supports_f32(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (!info.has("avx2")) return Support::no("needs AVX2, FMA and F16C");
  for (const graph::TypedOperand& operand : desc.inputs) {
    if (operand.type.dtype != DType::kF32) return Support::no("wants f32 operands");
  }
  return Support::yes();
}

// Element i of an operand's row-major order.
float* element(const Rows& rows, int64_t i) {
  return reinterpret_cast<float*>(rows.at(i / rows.size, i % rows.size));
}

// Calls f(first, count) for the longest runs up to kPiece within the rows of an operand.
template <class F>
void for_runs(const Rows& rows, F f) {
  if (rows.is_dense()) {
    for_pieces(rows.count * rows.size, f);
    return;
  }
  for (int64_t row = 0; row < rows.count; ++row) {
    for_pieces(rows.size, [&](int64_t col, int64_t n) { f(row * rows.size + col, n); });
  }
}

// The row structure shared by several operands: dense only when all are.
Rows common(Rows rows, std::initializer_list<Rows> others) {
  const bool dense = std::ranges::all_of(others, [](const Rows& r) { return r.is_dense(); });
  if (!dense) rows.pitch_bytes = -1;  // never equals a dense pitch: runs stay within rows
  return rows;
}

std::unique_ptr<Launch> prepare_scale_input(const graph::OpDesc& desc, const DeviceInfo& info,
                                            Config /*config*/, const Operands& operands) {
  const Rows state = find_rows(desc, operands, graph::Role::kState);
  const Rows coefficients = find_rows(desc, operands, graph::Role::kCoefficients);
  const Rows y(operands.outputs[0]);
  const int64_t sample = state.count * state.size / kMaxState;
  const int64_t copies = desc.as<graph::ScaleInput>().copies;
  const VectorOps* ops = vector_ops(info);
  return make_launch([=] {
    const float scale = reinterpret_cast<const StepCoefficients*>(coefficients.data)->input_scale;
    Rows first = state;
    first.count = state.count / kMaxState;
    for_runs(common(first, {state, y}), [&](int64_t i, int64_t n) {
      for (int64_t copy = 0; copy < copies; ++copy) {
        float* to = element(y, copy * sample + i);
        std::fill(to, to + n, 0.0F);
        ops->multiply_add(scale, element(state, i), to, n);
      }
    });
  });
}

std::unique_ptr<Launch> prepare_guidance(const graph::OpDesc& desc, const DeviceInfo& info,
                                         Config /*config*/, const Operands& operands) {
  const Rows x = find_rows(desc, operands, graph::Role::kX);
  const Rows coefficients = find_rows(desc, operands, graph::Role::kCoefficients);
  const Rows y(operands.outputs[0]);
  const VectorOps* ops = vector_ops(info);
  return make_launch([=] {
    const float guidance = reinterpret_cast<const StepCoefficients*>(coefficients.data)->guidance;
    const int64_t half = y.count * y.size;
    for_runs(common(y, {x, y}), [&](int64_t i, int64_t n) {
      ops->blend(element(x, i), element(x, half + i), guidance, element(y, i), n);
    });
  });
}

// Reads all of a piece before it writes, so that the new state may lie where the old one does.
std::unique_ptr<Launch> prepare_linear_update(const graph::OpDesc& desc, const DeviceInfo& info,
                                              Config /*config*/, const Operands& operands) {
  const Rows state = find_rows(desc, operands, graph::Role::kState);
  const Rows output = find_rows(desc, operands, graph::Role::kX);
  const Rows noise = find_rows(desc, operands, graph::Role::kNoise);
  const Rows coefficients = find_rows(desc, operands, graph::Role::kCoefficients);
  const Rows y(operands.outputs[0]);
  const VectorOps* ops = vector_ops(info);
  return make_launch([=] {
    const auto& update = reinterpret_cast<const StepCoefficients*>(coefficients.data)->update;
    const int64_t sample = output.count * output.size;
    for_runs(common(output, {state, output, noise, y}), [&](int64_t i, int64_t n) {
      alignas(64) float next[kMaxState][kPiece];
      for (int row = 0; row < kMaxState; ++row) {
        std::fill(next[row], next[row] + n, 0.0F);
        // A zero coefficient reads nothing: unused history may hold anything.
        const auto add = [&](float coefficient, const float* values) {
          if (coefficient != 0.0F) ops->multiply_add(coefficient, values, next[row], n);
        };
        for (int j = 0; j < kMaxState; ++j) add(update[row][j], element(state, j * sample + i));
        add(update[row][kMaxState], element(output, i));
        add(update[row][kMaxState + 1], element(noise, i));
      }
      for (int row = 0; row < kMaxState; ++row) {
        std::copy(next[row], next[row] + n, element(y, row * sample + i));
      }
    });
  });
}

}  // namespace

const Kernel scale_input_vector = plain_kernel("cpu.scale_input.vector", graph::OpKind::kScaleInput,
                                               supports_f32, prepare_scale_input);
const Kernel guidance_vector =
    plain_kernel("cpu.guidance.vector", graph::OpKind::kGuidance, supports_f32, prepare_guidance);
const Kernel linear_update_vector = plain_kernel(
    "cpu.linear_update.vector", graph::OpKind::kLinearUpdate, supports_f32, prepare_linear_update);

}  // namespace halftone::backend::cpu
