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

// What follows the sum of products of a linear or convolution: bias and row add before the
// activation, the residual after it.
class Epilogue {
 public:
  explicit Epilogue(const Call& call);
  // `n` is the batch row, `row` the row of the output. acc has one entry a weight row; for geglu
  // the first half of it is the result.
  void apply(std::span<double> acc, graph::Activation activation, bool geglu, int64_t n,
             int64_t row) const;

 private:
  std::vector<float> bias_, row_add_, residual_;
};

}  // namespace halftone::reference
