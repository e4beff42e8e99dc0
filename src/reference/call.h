// One call of a reference op: its description and its operands on the host, with exact loads and
// correctly rounded stores.
#pragma once

#include <span>
#include <vector>

#include "graph/ops/ops.h"

namespace halftone::reference {

struct Call {
  const graph::OpDesc& desc;
  std::span<const TensorView> inputs;
  std::span<const TensorView> outputs;

  // First operand of a role, or null.
  [[nodiscard]] const TensorView* find(graph::Role role) const;
  // First operand of a role; throws kInvalidArgument when absent.
  [[nodiscard]] const TensorView& need(graph::Role role) const;
  [[nodiscard]] const TensorView& output() const { return outputs.front(); }
};

// All elements in memory order, dense; every floating type is exact in float.
[[nodiscard]] std::vector<float> load(const TensorView& view);
[[nodiscard]] std::vector<int32_t> load_indices(const TensorView& view);
// Writes elements in memory order, each rounded once (to nearest even) to the view's type.
void store(std::span<const double> values, const TensorView& view);
// Writes one dense row of the view.
void store_row(std::span<const double> values, const TensorView& view, int64_t row);

[[nodiscard]] inline size_t to_size(int64_t n) { return static_cast<size_t>(n); }
// `axis` counted from the front.
[[nodiscard]] int front_axis(int64_t axis, const Shape& shape);

[[nodiscard]] double activate(graph::Activation activation, double x);

// acc[o] += sum_i x[i] * weight[i][o], with i in order: the accumulation of linear and convolution.
void multiply_add(std::span<double> acc, std::span<const float> x, const double* weight);

// All elements of x or of a weight in memory order, without their scale: floating values, i8, f8 or
// packed integers (`row` of them in a row of the view; with as many as bytes, the bytes).
[[nodiscard]] std::vector<float> load_codes(const TensorView& view, int64_t row);
// Quantizes values, rounded to float first, to i8, f8e4m3 or packed u8 (graph/ops/quantize.h).
struct Quantizer {
  int64_t bits = 8;
  bool narrow = false;
  int32_t zero = 0;
  void store_row(std::span<const float> values, float inverse, const TensorView& view,
                 int64_t row) const;
};
// Index of the scale of row `row` of a tensor.
[[nodiscard]] size_t scale_index(graph::Granularity granularity, const Shape& shape, int64_t row);
// Scales of `values`, which has the given shape; see graph::Quantize.
[[nodiscard]] std::vector<float> dynamic_scales(std::span<const float> values, const Shape& shape,
                                                graph::Granularity granularity, float largest);
// Ends an op in Quantize to 8 bits: static by kYScale, or dynamic with the scale as second output.
void store_quantized(std::span<const double> values, graph::Granularity granularity, bool dynamic,
                     const Call& call);

// Group statistics of the first output, where the op has them as a further one.
void store_group_statistics(const Call& call);
// Amax of the first output, in parts of kAmaxColumns columns; the same.
void store_amax(const Call& call);

// What follows the sum of products of a linear or convolution: scales, bias and row add before the
// activation, the residual after it. In double for plain operands; with kWScale in float, step by
// step (graph/ops/quantize.h).
class Epilogue {
 public:
  explicit Epilogue(const Call& call);
  // Ends output row `row` of batch row `n` and stores it. acc has one entry a weight row; for geglu
  // the first half of it is the result.
  void finish(std::span<double> acc, graph::Activation activation, bool geglu, int64_t n,
              int64_t row) const;

 private:
  void apply(std::span<double> acc, graph::Activation activation, bool geglu, int64_t n,
             int64_t row) const;
  void apply_scaled(std::span<double> acc, graph::Activation activation, bool geglu, int64_t n,
                    int64_t row) const;

  TensorView y_;
  std::vector<float> bias_, row_add_, residual_, x_scale_, w_scale_, y_scale_;
};

}  // namespace halftone::reference
