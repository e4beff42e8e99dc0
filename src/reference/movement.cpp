#include "reference/ops.h"

namespace halftone::reference {
namespace {

// Extents before, at and after an axis.
struct Split {
  size_t outer = 1, extent = 1, inner = 1;
};

Split split_at(const Shape& shape, int axis) {
  Split split;
  for (int i = 0; i < static_cast<int>(shape.rank()); ++i) {
    size_t& part = i < axis ? split.outer : i == axis ? split.extent : split.inner;
    part *= to_size(shape[i]);
  }
  return split;
}

}  // namespace

void run(const graph::Concat& op, const Call& call) {
  const Shape& shape = call.output().type.shape;
  const int axis = front_axis(op.axis, shape);
  const Split to = split_at(shape, axis);
  std::vector<double> y(to_size(shape.num_elements()));
  size_t at = 0;
  for (const TensorView& input : call.inputs) {
    const std::vector<float> x = load_codes(input, input.type.shape.row_size());
    const size_t extent = to_size(input.type.shape[axis]);
    for (size_t i = 0; i < x.size(); ++i) {
      const size_t outer = i / (extent * to.inner);
      y[(outer * to.extent + at) * to.inner + i % (extent * to.inner)] = static_cast<double>(x[i]);
    }
    at += extent;
  }
  store(y, call.output());
}

void run(const graph::Slice& op, const Call& call) {
  const TensorView& x_view = call.need(graph::Role::kX);
  const std::vector<float> x = load_codes(x_view, x_view.type.shape.row_size());
  const Split from = split_at(x_view.type.shape, front_axis(op.axis, x_view.type.shape));
  const size_t piece = to_size(op.end - op.begin) * from.inner;
  std::vector<double> y(from.outer * piece);
  for (size_t i = 0; i < y.size(); ++i) {
    const size_t source = (i / piece * from.extent + to_size(op.begin)) * from.inner + i % piece;
    y[i] = static_cast<double>(x[source]);
  }
  store(y, call.output());
}

void run(const graph::Reshape& /*op*/, const Call& call) {
  const TensorView& x_view = call.need(graph::Role::kX);
  const std::vector<float> x = load_codes(x_view, x_view.type.shape.row_size());
  store(std::vector<double>(x.begin(), x.end()), call.output());
}

void run(const graph::Transpose& op, const Call& call) {
  const TensorView& x_view = call.need(graph::Role::kX);
  const std::vector<float> x = load_codes(x_view, x_view.type.shape.row_size());
  const Shape& out = call.output().type.shape;
  const size_t rank = out.rank();
  std::vector<size_t> stride(rank, 1);  // of each axis of x
  for (size_t i = rank; i-- > 1;) stride[i - 1] = stride[i] * to_size(x_view.type.shape.dims()[i]);
  std::vector<double> y(x.size());
  for (size_t i = 0; i < y.size(); ++i) {
    size_t rest = i;
    size_t source = 0;
    for (size_t axis = rank; axis-- > 0;) {
      const size_t extent = to_size(out.dims()[axis]);
      source += rest % extent * stride[to_size(op.perm[axis])];
      rest /= extent;
    }
    y[i] = static_cast<double>(x[source]);
  }
  store(y, call.output());
}

void run(const graph::Upsample& op, const Call& call) {
  const TensorView& x_view = call.need(graph::Role::kX);
  const std::vector<float> x = load_codes(x_view, x_view.type.shape.row_size());
  const Shape& from = x_view.type.shape;
  const size_t channels = to_size(from[3]);
  std::vector<double> y(channels);
  for (int64_t row = 0; row < call.output().type.shape.num_rows(); ++row) {
    const int64_t w = row % op.out_w * from[2] / op.out_w;
    const int64_t h = row / op.out_w % op.out_h * from[1] / op.out_h;
    const int64_t n = row / (op.out_w * op.out_h);
    const float* source = x.data() + to_size((n * from[1] + h) * from[2] + w) * channels;
    y.assign(source, source + channels);
    store_row(y, call.output(), row);
  }
}

}  // namespace halftone::reference
