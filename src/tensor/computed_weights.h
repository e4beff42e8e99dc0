// Weights that a function makes, of any name and shape; tests feed graphs with them.
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "tensor/tensor.h"

namespace halftone {

class ComputedWeights final : public WeightSource {
 public:
  // Element `index`, in memory order, of the weight `name`.
  using Value = std::function<float(const std::string& name, size_t index)>;

  explicit ComputedWeights(Value value) : value_(std::move(value)) {}

  [[nodiscard]] bool contains(const std::string& /*name*/) const override { return true; }
  // Nobody who computes from them asks: graphs hold the types.
  [[nodiscard]] TensorType type(const std::string& /*name*/) const override { return {}; }
  void read(const std::string& name, const TensorType& type, std::byte* dst) const override {
    Tensor values({DType::kF32, type.shape});
    size_t index = 0;
    for (float& v : values.values<float>()) v = value_(name, index++);
    convert(values.data(), DType::kF32, dst, type.dtype, index);
  }

 private:
  Value value_;
};

}  // namespace halftone
