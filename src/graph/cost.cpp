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
    return 2.0 * static_cast<double>(desc.output().shape.num_rows()) * elements(weight);
  }
  if (std::holds_alternative<Attention>(desc.attrs)) {
    const TensorType& q = need_operand(desc.inputs, Role::kQ, "attention");
    const TensorType& k = need_operand(desc.inputs, Role::kK, "attention");
    return 4.0 * elements(q) * static_cast<double>(k.shape[1]);
  }
  return 0.0;
}

}  // namespace halftone::graph
