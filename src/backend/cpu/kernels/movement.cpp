// Ops that only move elements, of any type.
#include <algorithm>
#include <array>
#include <cstring>

#include <fmt/format.h>

#include "halftone/error.h"

#include "backend/cpu/call.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"

namespace halftone::backend::cpu {
namespace {

constexpr int64_t kTaskBytes = 1 << 18;

// f(row) for every row of `row_bytes` bytes, many rows a task when they are short.
template <class F>
void for_rows(int threads, int64_t count, size_t row_bytes, F f) {
  const int64_t per_task = std::max<int64_t>(1, kTaskBytes / static_cast<int64_t>(row_bytes + 1));
  parallel_for(threads, divide_up(count, per_task), [&](int64_t task, int) {
    const int64_t last = std::min(count, (task + 1) * per_task);
    for (int64_t row = task * per_task; row < last; ++row) f(row);
  });
}

size_t bytes_of(int64_t elements, DType dtype) {
  return static_cast<size_t>(elements) * size_of(dtype);
}

Support same_type(const graph::OpDesc& desc, const DeviceInfo& /*info*/) {
  for (const graph::TypedOperand& operand : desc.inputs) {
    if (operand.role != graph::Role::kIndex && operand.type.dtype != desc.output().dtype) {
      return Support::no("copies only; element types differ");
    }
  }
  return Support::yes();
}

// Where the rows of one operand lie in a joined tensor.
struct Placement {
  int64_t outer_rows;   // consecutive rows of the operand
  int64_t outer_pitch;  // rows of the joined tensor from one such run to the next
  int64_t first_row;
  int64_t first_col;
  [[nodiscard]] int64_t row(int64_t r) const {
    return r / outer_rows * outer_pitch + first_row + r % outer_rows;
  }
};

// The operand holds [begin, begin + extent of `part`) of `whole` along an axis.
Placement place(const Shape& whole, const Shape& part, int64_t axis, int64_t begin) {
  const int rank = static_cast<int>(whole.rank());
  const int at = static_cast<int>(axis < 0 ? axis + rank : axis);
  if (at == rank - 1) return {1, 1, 0, begin};
  int64_t inner = 1;
  for (int i = at + 1; i < rank - 1; ++i) inner *= whole[i];
  return {std::max<int64_t>(part[at] * inner, 1), whole[at] * inner, begin * inner, 0};
}

std::unique_ptr<Launch> prepare_concat(const graph::OpDesc& desc, const DeviceInfo& info,
                                       Config /*config*/, const Operands& operands) {
  struct Part {
    Rows rows;
    Placement placement;
  };
  const auto& op = desc.as<graph::Concat>();
  const int axis = static_cast<int>(op.axis);
  std::vector<Part> parts;
  int64_t begin = 0;
  for (const TensorView& view : operands.inputs) {
    parts.push_back({Rows(view), place(desc.output().shape, view.type.shape, op.axis, begin)});
    begin += view.type.shape[axis];
  }
  const Rows y(operands.outputs[0]);
  return make_launch([parts = std::move(parts), y, threads = info.num_units] {
    for (const Part& part : parts) {
      const size_t bytes = bytes_of(part.rows.size, y.dtype);
      for_rows(threads, part.rows.count, bytes, [&](int64_t row) {
        std::memcpy(y.at(part.placement.row(row), part.placement.first_col), part.rows.at(row),
                    bytes);
      });
    }
  });
}

std::unique_ptr<Launch> prepare_slice(const graph::OpDesc& desc, const DeviceInfo& info,
                                      Config /*config*/, const Operands& operands) {
  const auto& op = desc.as<graph::Slice>();
  const Rows x(operands.inputs[0]);
  const Rows y(operands.outputs[0]);
  const Placement from = place(desc.inputs[0].type.shape, desc.output().shape, op.axis, op.begin);
  return make_launch([=, threads = info.num_units] {
    const size_t bytes = bytes_of(y.size, y.dtype);
    for_rows(threads, y.count, bytes, [&](int64_t row) {
      std::memcpy(y.at(row), x.at(from.row(row), from.first_col), bytes);
    });
  });
}

// Copies in the longest runs that neither side interrupts.
std::unique_ptr<Launch> prepare_reshape(const graph::OpDesc& /*desc*/, const DeviceInfo& /*info*/,
                                        Config /*config*/, const Operands& operands) {
  Rows x(operands.inputs[0]);
  Rows y(operands.outputs[0]);
  if (x.is_dense()) x = x.flat();
  if (y.is_dense()) y = y.flat();
  return make_launch([=] {
    const int64_t total = x.count * x.size;
    for (int64_t i = 0; i < total;) {
      const int64_t run = std::min(x.size - i % x.size, y.size - i % y.size);
      std::memcpy(y.at(i / y.size, i % y.size), x.at(i / x.size, i % x.size),
                  bytes_of(run, x.dtype));
      i += run;
    }
  });
}

template <class T>
void gather(const std::byte* x, int64_t stride, std::byte* y, int64_t n) {
  const auto* from = reinterpret_cast<const T*>(x);
  auto* to = reinterpret_cast<T*>(y);
  for (int64_t i = 0; i < n; ++i) to[i] = from[i * stride];
}

std::unique_ptr<Launch> prepare_transpose(const graph::OpDesc& desc, const DeviceInfo& info,
                                          Config /*config*/, const Operands& operands) {
  const auto& op = desc.as<graph::Transpose>();
  const Shape& from = desc.inputs[0].type.shape;
  const size_t rank = from.rank();
  std::vector<int64_t> stride(rank, 1);  // elements, of each axis of x
  for (size_t i = rank - 1; i-- > 0;) {
    stride[i] = i + 2 == rank ? operands.inputs[0].row_pitch : stride[i + 1] * from.dims()[i + 1];
  }
  std::vector<int64_t> step, extents = desc.output().shape.dims();  // along each axis of y
  for (const int64_t axis : op.perm) step.push_back(stride[static_cast<size_t>(axis)]);
  const Rows x(operands.inputs[0]);
  const Rows y(operands.outputs[0]);
  return make_launch([=, threads = info.num_units] {
    for_rows(threads, y.count, bytes_of(y.size, y.dtype), [&](int64_t row) {
      int64_t at = 0;
      int64_t rest = row;
      for (size_t axis = rank - 1; axis-- > 0;) {
        at += rest % extents[axis] * step[axis];
        rest /= extents[axis];
      }
      switch (size_of(x.dtype)) {
        case 1:
          gather<uint8_t>(x.at(0, at), step.back(), y.at(row), y.size);
          return;
        case 2:
          gather<uint16_t>(x.at(0, at), step.back(), y.at(row), y.size);
          return;
        case 4:
          gather<uint32_t>(x.at(0, at), step.back(), y.at(row), y.size);
          return;
        default:
          gather<uint64_t>(x.at(0, at), step.back(), y.at(row), y.size);
          return;
      }
    });
  });
}

std::unique_ptr<Launch> prepare_upsample(const graph::OpDesc& desc, const DeviceInfo& info,
                                         Config /*config*/, const Operands& operands) {
  const auto op = desc.as<graph::Upsample>();
  const int64_t height = desc.inputs[0].type.shape[1];
  const int64_t width = desc.inputs[0].type.shape[2];
  const Rows x(operands.inputs[0]);
  const Rows y(operands.outputs[0]);
  return make_launch([=, threads = info.num_units] {
    const size_t bytes = bytes_of(y.size, y.dtype);
    for_rows(threads, y.count, bytes, [&](int64_t row) {
      const int64_t w = row % op.out_w * width / op.out_w;
      const int64_t h = row / op.out_w % op.out_h * height / op.out_h;
      const int64_t n = row / (op.out_w * op.out_h);
      std::memcpy(y.at(row), x.at((n * height + h) * width + w), bytes);
    });
  });
}

// Element i of dense or pitched i32 indices, checked against the number of rows.
int64_t index_at(const Rows& indices, int64_t i, int64_t rows, std::string_view op) {
  int32_t index = 0;
  std::memcpy(&index, indices.at(i / indices.size, i % indices.size), sizeof(index));
  if (index < 0 || index >= rows) {
    throw Error(Errc::kInvalidArgument,
                fmt::format("{}: index {} lies outside [0, {})", op, index, rows));
  }
  return index;
}

std::unique_ptr<Launch> prepare_embedding(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                          Config /*config*/, const Operands& operands) {
  const Rows indices = find_rows(desc, operands, graph::Role::kIndex);
  const Rows table = find_rows(desc, operands, graph::Role::kWeight);
  const Rows y(operands.outputs[0]);
  return make_launch([=] {
    for (int64_t row = 0; row < y.count; ++row) {
      const int64_t source = index_at(indices, row, table.count, "embedding");
      std::memcpy(y.at(row), table.at(source), bytes_of(y.size, y.dtype));
    }
  });
}

std::unique_ptr<Launch> prepare_select_row(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                           Config /*config*/, const Operands& operands) {
  const Rows indices = find_rows(desc, operands, graph::Role::kIndex);
  const Rows x = find_rows(desc, operands, graph::Role::kX);
  const Rows y(operands.outputs[0]);
  const int64_t tokens = find_view(desc, operands, graph::Role::kX)->type.shape[1];
  return make_launch([=] {
    for (int64_t row = 0; row < y.count; ++row) {
      const int64_t source = row * tokens + index_at(indices, row, tokens, "select_row");
      std::memcpy(y.at(row), x.at(source), bytes_of(y.size, y.dtype));
    }
  });
}

}  // namespace

const Kernel concat_copy =
    plain_kernel("cpu.concat.copy", graph::OpKind::kConcat, same_type, prepare_concat);
const Kernel slice_copy =
    plain_kernel("cpu.slice.copy", graph::OpKind::kSlice, same_type, prepare_slice);
const Kernel reshape_copy =
    plain_kernel("cpu.reshape.copy", graph::OpKind::kReshape, same_type, prepare_reshape);
const Kernel transpose_copy =
    plain_kernel("cpu.transpose.copy", graph::OpKind::kTranspose, same_type, prepare_transpose);
const Kernel upsample_copy =
    plain_kernel("cpu.upsample.copy", graph::OpKind::kUpsample, same_type, prepare_upsample);
const Kernel embedding_copy =
    plain_kernel("cpu.embedding.copy", graph::OpKind::kEmbedding, same_type, prepare_embedding);
const Kernel select_row_copy =
    plain_kernel("cpu.select_row.copy", graph::OpKind::kSelectRow, same_type, prepare_select_row);

}  // namespace halftone::backend::cpu
