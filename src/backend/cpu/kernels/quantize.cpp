// Quantize, Dequantize and Scale: rows as f32, taken by threads.
#include <algorithm>
#include <limits>

#include "backend/cpu/call.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/kernels/quantized_rows.h"
#include "backend/cpu/parallel.h"
#include "tensor/quantized.h"

namespace halftone::backend::cpu {
namespace {

using graph::Role;

// A row and the factors of its columns as f32; a maximum for every thread.
struct QuantizeScratch {
  float *gamma, *rows, *maxima;
  size_t bytes;

  QuantizeScratch(const graph::OpDesc& desc, int threads, void* workspace) {
    Scratch scratch(workspace);
    const int64_t size = desc.input(Role::kX)->shape.row_size();
    gamma = scratch.take<float>(desc.input(Role::kGamma) == nullptr ? 0 : size);
    rows = scratch.take<float>(threads * size);
    maxima = scratch.take<float>(threads);
    bytes = scratch.used_bytes();
  }
};

class QuantizeLaunch final : public Launch {
 public:
  QuantizeLaunch(const graph::OpDesc& desc, const DeviceInfo& info, const Operands& operands)
      : ops_(*vector_ops(info)),
        info_threads_(info.num_units),
        threads_(useful_threads(info.num_units, 32 * desc.input(Role::kX)->shape.num_elements())),
        scratch_(desc, info.num_units, operands.workspace),
        x_(find_rows(desc, operands, Role::kX)),
        gamma_(find_rows(desc, operands, Role::kGamma)),
        y_(desc, operands, ops_),
        per_channel_(desc.as<graph::Quantize>().dynamic &&
                     desc.as<graph::Quantize>().granularity == graph::Granularity::kPerChannel) {}

  void enqueue(Stream& /*stream*/) const override {
    if (gamma_) ops_.load(gamma_.dtype, gamma_.data, scratch_.gamma, x_.size);
    if (y_.wants_tensor_maximum()) find_tensor_maximum();
    // Rows that share a scale stay with one thread while their maximum is found; channels without
    // rows have a scale too.
    const int64_t rows = per_channel_ ? y_.rows_per_scale() : rows_of_task();
    const int64_t tasks = per_channel_ ? y_.num_scales() : divide_up(x_.count, rows);
    parallel_for(threads_, tasks, [this, rows](int64_t task, int thread) {
      const int64_t first = task * rows;
      const int64_t last = std::min(x_.count, first + rows);
      if (per_channel_) {
        float maximum = 0.0F;
        for (int64_t row = first; row < last; ++row) {
          maximum = std::max(maximum, ops_.largest(values(row, thread), x_.size));
        }
        y_.set_maximum(task, maximum);
      }
      for (int64_t row = first; row < last; ++row) y_.store(values(row, thread), row);
    });
  }

 private:
  [[nodiscard]] int64_t rows_of_task() const {
    return std::max<int64_t>(1, (1 << 14) / std::max<int64_t>(x_.size, 1));
  }

  [[nodiscard]] const float* values(int64_t row, int thread) const {
    float* to = scratch_.rows + thread * x_.size;
    ops_.load(x_.dtype, x_.at(row), to, x_.size);
    if (gamma_) ops_.multiply(to, scratch_.gamma, to, x_.size);
    return to;
  }

  void find_tensor_maximum() const {
    std::fill_n(scratch_.maxima, info_threads_, 0.0F);
    const int64_t rows = rows_of_task();
    parallel_for(threads_, divide_up(x_.count, rows), [this, rows](int64_t task, int thread) {
      float& maximum = scratch_.maxima[thread];
      for (int64_t row = task * rows; row < std::min(x_.count, (task + 1) * rows); ++row) {
        maximum = std::max(maximum, ops_.largest(values(row, thread), x_.size));
      }
    });
    y_.set_tensor_maximum(*std::max_element(scratch_.maxima, scratch_.maxima + info_threads_));
  }

  const VectorOps& ops_;
  int info_threads_, threads_;
  QuantizeScratch scratch_;
  Rows x_, gamma_;
  QuantizedRows y_;
  bool per_channel_;
};

Support supports_quantize(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (!info.has("avx2")) return Support::no("needs AVX2, FMA and F16C");
  if (desc.input(Role::kAmax) != nullptr) return Support::no("takes amax itself");
  for (const graph::TypedOperand& operand : desc.inputs) {
    const bool integers = operand.role == Role::kXZero;
    if (!integers && !is_vector_type(operand.type.dtype)) return Support::no("wants floats");
  }
  return Support::yes();
}

size_t quantize_workspace(const graph::OpDesc& desc, const DeviceInfo& info, Config /*config*/) {
  return QuantizeScratch(desc, info.num_units, nullptr).bytes;
}

std::unique_ptr<Launch> prepare_quantize(const graph::OpDesc& desc, const DeviceInfo& info,
                                         Config /*config*/, const Operands& operands) {
  return std::make_unique<QuantizeLaunch>(desc, info, operands);
}

// --- dequantize and scale: a factor for every row or column ---

constexpr int64_t kPiece = 2048;

// f(row, column, count) for pieces of every row, rows in parallel.
template <class F>
void for_row_pieces(int threads, const Rows& y, F f) {
  const int64_t rows = std::max<int64_t>(1, (1 << 14) / std::max<int64_t>(y.size, 1));
  parallel_for(threads, divide_up(y.count, rows), [&](int64_t task, int) {
    for (int64_t row = task * rows; row < std::min(y.count, (task + 1) * rows); ++row) {
      for (int64_t col = 0; col < y.size; col += kPiece) {
        f(row, col, std::min(kPiece, y.size - col));
      }
    }
  });
}

// Codes [col, col + n) of a row as floats.
void load_codes(const VectorOps& ops, const Rows& x, int64_t bits, int64_t row, int64_t col,
                int64_t n, float* to) {
  if (x.dtype != DType::kU8) return ops.load(x.dtype, x.at(row, col), to, n);
  const auto* packed = reinterpret_cast<const uint8_t*>(x.at(row));
  for (int64_t i = 0; i < n; ++i) to[i] = static_cast<float>(packed_at(packed, col + i, bits));
}

std::unique_ptr<Launch> prepare_dequantize(const graph::OpDesc& desc, const DeviceInfo& info,
                                           Config /*config*/, const Operands& operands) {
  const auto& op = desc.as<graph::Dequantize>();
  const Rows x = find_rows(desc, operands, Role::kX);
  const Rows y(operands.outputs[0]);
  const Rows scale = find_rows(desc, operands, Role::kXScale);
  const TensorView* zero = find_view(desc, operands, Role::kXZero);
  const int64_t rows_per_scale = std::max<int64_t>(1, y.count / std::max<int64_t>(scale.size, 1));
  const VectorOps* ops = vector_ops(info);
  const int threads = useful_threads(info.num_units, 32 * y.count * y.size);
  const int32_t* zero_point = zero == nullptr ? nullptr : zero->as<int32_t>();
  return make_launch([=, bits = op.bits] {
    for_row_pieces(threads, y, [&](int64_t row, int64_t col, int64_t n) {
      alignas(64) float values[kPiece];
      load_codes(*ops, x, bits, row, col, n, values);
      const float shift = zero_point == nullptr ? 0.0F : -static_cast<float>(*zero_point);
      const float factor = reinterpret_cast<const float*>(scale.data)[row / rows_per_scale];
      constexpr float kNone = std::numeric_limits<float>::infinity();
      if (shift != 0.0F) ops->affine(values, 1.0F, shift, -kNone, kNone, values, n);
      ops->affine(values, factor, 0.0F, -kNone, kNone, values, n);
      ops->store(values, y.dtype, y.at(row, col), n);
    });
  });
}

Support supports_dequantize(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (!info.has("avx2")) return Support::no("needs AVX2, FMA and F16C");
  const DType x = desc.input(Role::kX)->dtype;
  if (x != DType::kI8 && x != DType::kU8 && x != DType::kF8E4M3) return Support::no("wants codes");
  return is_vector_type(desc.output().dtype) ? Support::yes()
                                             : Support::no("makes f32, f16 and bf16");
}

std::unique_ptr<Launch> prepare_scale(const graph::OpDesc& desc, const DeviceInfo& info,
                                      Config /*config*/, const Operands& operands) {
  // The first axis of a vector (a bias) is its last one too.
  const bool by_row =
      desc.as<graph::Scale>().axis == 0 && operands.outputs[0].type.shape.rank() > 1;
  const Rows x = find_rows(desc, operands, Role::kX);
  const Rows gamma = find_rows(desc, operands, Role::kGamma);
  const Rows y(operands.outputs[0]);
  const int64_t rows_per_factor = std::max<int64_t>(1, y.count / std::max<int64_t>(gamma.size, 1));
  const VectorOps* ops = vector_ops(info);
  const int threads = useful_threads(info.num_units, 32 * y.count * y.size);
  return make_launch([=] {
    for_row_pieces(threads, y, [&](int64_t row, int64_t col, int64_t n) {
      alignas(64) float values[kPiece], factors[kPiece];
      ops->load(x.dtype, x.at(row, col), values, n);
      if (by_row) {
        float factor = 0.0F;
        ops->load(gamma.dtype, gamma.at(0, row / rows_per_factor), &factor, 1);
        std::fill_n(factors, n, factor);
      } else {
        ops->load(gamma.dtype, gamma.at(0, col), factors, n);
      }
      ops->multiply(values, factors, values, n);
      ops->store(values, y.dtype, y.at(row, col), n);
    });
  });
}

constexpr Kernel quantize_kernel() {
  Kernel kernel = plain_kernel("cpu.quantize.vector", graph::OpKind::kQuantize, supports_quantize,
                               prepare_quantize);
  kernel.workspace_bytes = quantize_workspace;
  return kernel;
}

}  // namespace

const Kernel quantize_vector = quantize_kernel();
const Kernel dequantize_vector = plain_kernel("cpu.dequantize.vector", graph::OpKind::kDequantize,
                                              supports_dequantize, prepare_dequantize);
const Kernel scale_vector =
    plain_kernel("cpu.scale.vector", graph::OpKind::kScale, supports_vector_ops, prepare_scale);

}  // namespace halftone::backend::cpu
