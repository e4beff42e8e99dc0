#include "models/builder.h"

#include <utility>

#include <fmt/format.h>

namespace halftone::models {

using graph::Role;

Builder::Scope::Scope(Builder& builder, std::string_view name)
    : builder_(builder), parent_length_(builder.scope_.size()) {
  builder_.scope_ = builder_.path(name);
}

Builder::Scope::Scope(Builder& builder, std::string_view list, size_t index)
    : Scope(builder, fmt::format("{}.{}", list, index)) {}

Builder::Scope::~Scope() { builder_.scope_.resize(parent_length_); }

std::string Builder::path(std::string_view name) const {
  return scope_.empty() ? std::string(name) : fmt::format("{}.{}", scope_, name);
}

ValueId Builder::weight(std::string_view layer, std::string_view tensor, DType dtype, Shape shape) {
  return this->tensor(fmt::format("{}.{}", path(layer), tensor), dtype, std::move(shape));
}

ValueId Builder::tensor(const std::string& path, DType dtype, Shape shape) {
  std::string name = fmt::format("{}/{}", component_, path);
  if (const auto known = weights_.find(name); known != weights_.end()) return known->second;
  const ValueId value = graph_.add_weight(name, {dtype, std::move(shape)});
  weights_.emplace(std::move(name), value);
  return value;
}

ValueId Builder::input(std::string name, TensorType type, Rate rate) {
  return graph_.add_input(std::move(name), std::move(type), rate);
}

void Builder::output(std::string name, ValueId x) {
  graph_.add_output(std::move(name), cast(x, DType::kF32));
}

void Builder::output_bytes(ValueId image) {
  graph_.add_output("rgb", op(graph::ToBytes{}, {{Role::kX, image}}));
  graph_.add_output("not_finite", graph_.nodes().back().outputs[1]);
}

ValueId Builder::conv2d(std::string_view name, ValueId x, const Conv& conv, Bias bias) {
  const ValueId stored = weight(name, "weight", compute_dtype_,
                                {conv.channels, channels(x), conv.kernel, conv.kernel});
  const ValueId kernel =
      graph_.add_node(graph::Transpose{{0, 2, 3, 1}}, {{Role::kX, stored}}, path(name) + ".weight");
  std::vector<graph::Operand> operands{{Role::kX, x}, {Role::kWeight, kernel}};
  if (bias == Bias::kPresent) {
    operands.push_back({Role::kBias, weight(name, "bias", compute_dtype_, {conv.channels})});
  }
  return graph_.add_node(
      graph::Conv2d{.stride = conv.stride, .pad_begin = conv.pad_begin, .pad_end = conv.pad_end},
      std::move(operands), path(name));
}

ValueId Builder::linear(std::string_view name, ValueId x, int64_t out, Bias bias) {
  std::vector<graph::Operand> operands{
      {Role::kX, x}, {Role::kWeight, weight(name, "weight", compute_dtype_, {out, channels(x)})}};
  if (bias == Bias::kPresent) {
    operands.push_back({Role::kBias, weight(name, "bias", compute_dtype_, {out})});
  }
  return graph_.add_node(graph::Linear{}, std::move(operands), path(name));
}

ValueId Builder::group_norm(std::string_view name, ValueId x, int64_t groups, double eps) {
  return graph_.add_node(graph::GroupNorm{.groups = groups, .eps = eps},
                         {{Role::kX, x},
                          {Role::kGamma, weight(name, "weight", DType::kF32, {channels(x)})},
                          {Role::kBeta, weight(name, "bias", DType::kF32, {channels(x)})}},
                         path(name));
}

ValueId Builder::layer_norm(std::string_view name, ValueId x, double eps) {
  return graph_.add_node(graph::LayerNorm{.eps = eps},
                         {{Role::kX, x},
                          {Role::kGamma, weight(name, "weight", DType::kF32, {channels(x)})},
                          {Role::kBeta, weight(name, "bias", DType::kF32, {channels(x)})}},
                         path(name));
}

ValueId Builder::table(std::string_view name, int64_t rows, int64_t channels) {
  return weight(name, "weight", compute_dtype_, {rows, channels});
}

ValueId Builder::parameter(std::string_view name, Shape shape) {
  return tensor(path(name), compute_dtype_, std::move(shape));
}

ValueId Builder::activate(graph::Activation activation, ValueId x) {
  return op(graph::Unary{activation}, {{Role::kX, x}});
}

ValueId Builder::add(ValueId a, ValueId b) {
  return op(graph::Add{}, {{Role::kX, a}, {Role::kX, b}});
}

ValueId Builder::affine(ValueId x, const graph::Affine& affine) {
  return op(affine, {{Role::kX, x}});
}

ValueId Builder::attention(ValueId q, ValueId k, ValueId v, const graph::Attention& attention) {
  return op(attention, {{Role::kQ, q}, {Role::kK, k}, {Role::kV, v}});
}

ValueId Builder::concat(const std::vector<ValueId>& parts, int64_t axis) {
  std::vector<graph::Operand> operands;
  for (const ValueId part : parts) operands.push_back({Role::kX, part});
  return op(graph::Concat{axis}, std::move(operands));
}

ValueId Builder::slice(ValueId x, int64_t axis, int64_t begin, int64_t end) {
  return op(graph::Slice{.axis = axis, .begin = begin, .end = end}, {{Role::kX, x}});
}

ValueId Builder::reshape(ValueId x, std::vector<int64_t> shape) {
  return op(graph::Reshape{std::move(shape)}, {{Role::kX, x}});
}

ValueId Builder::cast(ValueId x, DType dtype) {
  return graph_.type(x).dtype == dtype ? x : op(graph::Cast{dtype}, {{Role::kX, x}});
}

ValueId Builder::op(graph::OpAttrs attrs, std::vector<graph::Operand> inputs) {
  std::string name = path(graph::name_of(attrs));
  const int use = num_uses_[name]++;
  if (use > 0) name += fmt::format("_{}", use + 1);
  return graph_.add_node(std::move(attrs), std::move(inputs), std::move(name));
}

}  // namespace halftone::models
