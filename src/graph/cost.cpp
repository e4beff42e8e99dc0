#include "graph/cost.h"

namespace halftone::graph {

double flop_of(const OpDesc& desc) {
  const auto elements = [](const TensorType& type) {
    return static_cast<double>(type.shape.num_elements());
  };
  if (std::holds_alternative<Linear>(desc.attrs)) {
    const TensorType& weight = need_operand(desc.inputs, Role::kWeight, "linear");
    const TensorType& x = need_operand(desc.inputs, Role::kX, "linear");
    return 2.0 * static_cast<double>(x.shape.num_rows()) * elements(weight);
  }
  if (std::holds_alternative<Conv2d>(desc.attrs)) {
    const TensorType& weight = need_operand(desc.inputs, Role::kWeight, "conv2d");
    const Shape& y = desc.output().shape;
    const bool interleaved = std::get<Conv2d>(desc.attrs).interleaved;
    const int64_t pixels = interleaved ? y[0] * (y[1] / 2 + 1) * (y[2] / 2 + 1) : y.num_rows();
    return 2.0 * static_cast<double>(pixels) * elements(weight);
  }
  if (std::holds_alternative<Attention>(desc.attrs)) {
    const TensorType& q = need_operand(desc.inputs, Role::kQ, "attention");
    const TensorType& k = need_operand(desc.inputs, Role::kK, "attention");
    return 4.0 * elements(q) * static_cast<double>(k.shape[1]);
  }
  return 0.0;
}

}  // namespace halftone::graph
