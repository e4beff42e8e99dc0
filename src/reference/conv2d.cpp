#include "reference/ops.h"

namespace halftone::reference {
namespace {

// [out, kh, kw, in] as [kh, kw, in, out].
std::vector<double> taps_first(const std::vector<float>& weight, size_t out) {
  const size_t inner = weight.size() / out;
  std::vector<double> result(weight.size());
  for (size_t o = 0; o < out; ++o) {
    for (size_t i = 0; i < inner; ++i)
      result[i * out + o] = static_cast<double>(weight[o * inner + i]);
  }
  return result;
}

// The convolution, then its results interleaved.
void run_interleaved(graph::Conv2d op, const Call& call) {
  op.interleaved = false;
  const graph::OpAttrs attrs = op;
  Tensor parts(infer_types(attrs, call.desc.inputs)[0]);
  const TensorView view = parts.view();
  const graph::TypedOperand typed{graph::Role::kY, view.type};
  const graph::OpDesc desc{attrs, call.desc.inputs, {&typed, 1}};
  run(op, {desc, call.inputs, {&view, 1}});
  const graph::OpAttrs merge = graph::SubpixelMerge{};
  const graph::TypedOperand x{graph::Role::kX, view.type};
  run(graph::SubpixelMerge{}, {{merge, {&x, 1}, call.desc.outputs}, {&view, 1}, call.outputs});
}

}  // namespace

void run(const graph::Conv2d& op, const Call& call) {
  if (op.interleaved) {
    run_interleaved(op, call);
    return;
  }
  const TensorView& x_view = call.need(graph::Role::kX);
  const Shape& in_shape = x_view.type.shape;
  const Shape& weight_shape = call.need(graph::Role::kWeight).type.shape;
  const Shape& out_shape = call.output().type.shape;
  if (out_shape.num_elements() == 0) return;
  const size_t in = to_size(in_shape[3]);
  const size_t out = to_size(out_shape[3]);
  const std::vector<float> x = load_codes(x_view, in_shape[3]);
  const std::vector<double> weight =
      taps_first(load_codes(call.need(graph::Role::kWeight), in_shape[3]), out);
  const Epilogue epilogue(call);
  std::vector<double> acc(out);
  for (int64_t row = 0; row < out_shape.num_rows(); ++row) {
    const int64_t ow = row % out_shape[2];
    const int64_t oh = row / out_shape[2] % out_shape[1];
    const int64_t n = row / (out_shape[1] * out_shape[2]);
    acc.assign(out, 0.0);
    for (int64_t kh = 0; kh < weight_shape[1]; ++kh) {
      const int64_t h = oh * op.stride + kh - op.pad_begin;
      if (h < 0 || h >= in_shape[1]) continue;
      for (int64_t kw = 0; kw < weight_shape[2]; ++kw) {
        const int64_t w = ow * op.stride + kw - op.pad_begin;
        if (w < 0 || w >= in_shape[2]) continue;
        const size_t position = to_size((n * in_shape[1] + h) * in_shape[2] + w);
        const size_t tap = to_size(kh * weight_shape[2] + kw);
        multiply_add(acc, std::span(x).subspan(position * in, in), weight.data() + tap * in * out);
      }
    }
    epilogue.finish(acc, op.activation, false, n, row);
  }
  store_group_statistics(call);
  store_amax(call);
}

}  // namespace halftone::reference
