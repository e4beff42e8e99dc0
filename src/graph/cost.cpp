#include "graph/cost.h"

namespace halftone::graph {
namespace {

double elements(const TensorType& type) { return static_cast<double>(type.shape.num_elements()); }

// Of x with a linear's weight.
double product_flop(std::span<const TypedOperand> in) {
  const TensorType& weight = need_operand(in, Role::kWeight, "linear");
  const TensorType& x = need_operand(in, Role::kX, "linear");
  return 2.0 * static_cast<double>(x.shape.num_rows()) * elements(weight);
}

}  // namespace

double flop_of(const OpDesc& desc) {
  if (std::holds_alternative<Linear>(desc.attrs)) {
    return product_flop(desc.inputs);
  }
  if (std::holds_alternative<Conv2d>(desc.attrs)) {
    const TensorType& weight = need_operand(desc.inputs, Role::kWeight, "conv2d");
    const Shape& y = desc.output().shape;
    const bool interleaved = std::get<Conv2d>(desc.attrs).interleaved;
    const int64_t pixels = interleaved ? y[0] * (y[1] / 2 + 1) * (y[2] / 2 + 1) : y.num_rows();
    return 2.0 * static_cast<double>(pixels) * elements(weight);
  }
  if (std::holds_alternative<Attention>(desc.attrs)) {
    const TensorType& k = need_operand(desc.inputs, Role::kK, "attention");
    const double attended = 4.0 * elements(desc.output()) * static_cast<double>(k.shape[1]);
    return projects_queries(desc.inputs) ? attended + product_flop(desc.inputs) : attended;
  }
  return 0.0;
}

}  // namespace halftone::graph
