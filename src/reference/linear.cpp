#include "reference/ops.h"

namespace halftone::reference {

void run(const graph::Linear& op, const Call& call) {
  const TensorView& x_view = call.need(graph::Role::kX);
  const TensorView& weight_view = call.need(graph::Role::kWeight);
  const size_t in = to_size(x_view.type.shape[-1]);
  const size_t rows_out = to_size(weight_view.type.shape[0]);
  const std::vector<float> weight = load_codes(weight_view, x_view.type.shape[-1]);
  std::vector<double> transposed(weight.size());
  for (size_t o = 0; o < rows_out; ++o) {
    for (size_t i = 0; i < in; ++i)
      transposed[i * rows_out + o] = static_cast<double>(weight[o * in + i]);
  }
  const std::vector<float> x = load_codes(x_view, x_view.type.shape[-1]);
  const Epilogue epilogue(call);
  const int64_t rows = x_view.type.shape.num_rows();
  const int64_t rows_per_batch =
      x_view.type.shape.rank() == 1 || rows == 0 ? 1 : rows / x_view.type.shape[0];
  std::vector<double> acc(rows_out);
  for (int64_t row = 0; row < rows; ++row) {
    acc.assign(rows_out, 0.0);
    multiply_add(acc, std::span(x).subspan(to_size(row) * in, in), transposed.data());
    epilogue.finish(acc, op.activation, op.geglu, row / rows_per_batch, row);
  }
}

}  // namespace halftone::reference
