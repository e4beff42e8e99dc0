// Ops that treat every element, or every row, alike. Rows are taken in pieces that stay in the
// first level cache as f32.
#include <algorithm>

#include "backend/cpu/call.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"

namespace halftone::backend::cpu {
namespace {

constexpr int64_t kPiece = 2048;        // elements converted at a time
constexpr int64_t kTask = 16 * kPiece;  // elements a thread takes at least

// Calls f(row, first column, count) for every piece of `count` rows of `size` elements.
template <class F>
void for_pieces(int threads, int64_t count, int64_t size, F f) {
  if (count == 0 || size == 0) return;
  const int64_t rows_per_task = std::max<int64_t>(1, kTask / size);
  const int64_t cols_per_task = std::min(size, kTask);
  const int64_t tasks_per_row = divide_up(size, cols_per_task);
  parallel_for(threads, divide_up(count, rows_per_task) * tasks_per_row, [&](int64_t task, int) {
    const int64_t first_row = task / tasks_per_row * rows_per_task;
    const int64_t last_row = std::min(count, first_row + rows_per_task);
    const int64_t first_col = task % tasks_per_row * cols_per_task;
    const int64_t last_col = std::min(size, first_col + cols_per_task);
    for (int64_t row = first_row; row < last_row; ++row) {
      for (int64_t col = first_col; col < last_col; col += kPiece) {
        f(row, col, std::min(kPiece, last_col - col));
      }
    }
  });
}

// y = f(x) elementwise: f(values, count) works in place.
template <class F>
std::unique_ptr<Launch> prepare_map(const DeviceInfo& info, Rows x, Rows y, F f) {
  const VectorOps* ops = vector_ops(info);
  const int threads = info.num_units;
  if (x.is_dense() && y.is_dense()) {
    x = x.flat();
    y = y.flat();
  }
  return make_launch([=] {
    for_pieces(threads, y.count, y.size, [&](int64_t row, int64_t col, int64_t n) {
      alignas(64) float values[kPiece];
      ops->load(x.dtype, x.at(row, col), values, n);
      f(*ops, values, n);
      ops->store(values, y.dtype, y.at(row, col), n);
    });
  });
}

std::unique_ptr<Launch> prepare_unary(const graph::OpDesc& desc, const DeviceInfo& info,
                                      Config /*config*/, const Operands& operands) {
  const graph::Activation activation = desc.as<graph::Unary>().activation;
  return prepare_map(info, Rows(operands.inputs[0]), Rows(operands.outputs[0]),
                     [activation](const VectorOps& ops, float* values, int64_t n) {
                       ops.activate(activation, values, values, n);
                     });
}

std::unique_ptr<Launch> prepare_affine(const graph::OpDesc& desc, const DeviceInfo& info,
                                       Config /*config*/, const Operands& operands) {
  const auto& op = desc.as<graph::Affine>();
  const auto scale = static_cast<float>(op.scale);
  const auto shift = static_cast<float>(op.shift);
  const auto low = static_cast<float>(op.low);
  const auto high = static_cast<float>(op.high);
  return prepare_map(info, Rows(operands.inputs[0]), Rows(operands.outputs[0]),
                     [=](const VectorOps& ops, float* values, int64_t n) {
                       ops.affine(values, scale, shift, low, high, values, n);
                     });
}

std::unique_ptr<Launch> prepare_cast(const graph::OpDesc& /*desc*/, const DeviceInfo& info,
                                     Config /*config*/, const Operands& operands) {
  return prepare_map(info, Rows(operands.inputs[0]), Rows(operands.outputs[0]),
                     [](const VectorOps&, float*, int64_t) {});
}

std::unique_ptr<Launch> prepare_add(const graph::OpDesc& desc, const DeviceInfo& info,
                                    Config /*config*/, const Operands& operands) {
  const Rows a(operands.inputs[0]);
  const Rows b(operands.inputs[1]);
  const Rows y(operands.outputs[0]);
  const Shape& shape = desc.output().shape;
  // Row r of y takes row r / repeat % b.count of b.
  const bool per_batch_row =
      !desc.as<graph::Add>().broadcast_batch && desc.inputs[1].type.shape != shape;
  const int64_t repeat = per_batch_row && shape[0] > 0 ? shape.num_rows() / shape[0] : 1;
  const VectorOps* ops = vector_ops(info);
  const int threads = info.num_units;
  return make_launch([=] {
    for_pieces(threads, y.count, y.size, [&](int64_t row, int64_t col, int64_t n) {
      alignas(64) float values[kPiece], others[kPiece];
      ops->load(a.dtype, a.at(row, col), values, n);
      ops->load(b.dtype, b.at(row / repeat % b.count, col), others, n);
      ops->add(values, others, values, n);
      ops->store(values, y.dtype, y.at(row, col), n);
    });
  });
}

std::unique_ptr<Launch> prepare_geglu(const graph::OpDesc& /*desc*/, const DeviceInfo& info,
                                      Config /*config*/, const Operands& operands) {
  const Rows x(operands.inputs[0]);
  const Rows y(operands.outputs[0]);
  const VectorOps* ops = vector_ops(info);
  const int threads = info.num_units;
  return make_launch([=] {
    for_pieces(threads, y.count, y.size, [&](int64_t row, int64_t col, int64_t n) {
      alignas(64) float values[kPiece], gates[kPiece];
      ops->load(x.dtype, x.at(row, col), values, n);
      ops->load(x.dtype, x.at(row, y.size + col), gates, n);
      ops->multiply_gelu(values, gates, values, n);
      ops->store(values, y.dtype, y.at(row, col), n);
    });
  });
}

}  // namespace

const Kernel unary_vector =
    plain_kernel("cpu.unary.vector", graph::OpKind::kUnary, supports_vector_ops, prepare_unary);
const Kernel affine_vector =
    plain_kernel("cpu.affine.vector", graph::OpKind::kAffine, supports_vector_ops, prepare_affine);
const Kernel cast_vector =
    plain_kernel("cpu.cast.vector", graph::OpKind::kCast, supports_vector_ops, prepare_cast);
const Kernel add_vector =
    plain_kernel("cpu.add.vector", graph::OpKind::kAdd, supports_vector_ops, prepare_add);
const Kernel geglu_vector =
    plain_kernel("cpu.geglu.vector", graph::OpKind::kGeglu, supports_vector_ops, prepare_geglu);

}  // namespace halftone::backend::cpu
