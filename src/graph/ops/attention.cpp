#include "graph/ops/attention.h"

#include <algorithm>
#include <iterator>

#include <fmt/format.h>

#include "graph/ops/quantize.h"

namespace halftone::graph {
namespace {

// The scale of an operand in 8 bits: one, or one for each head's part of a token.
void require_scale(std::span<const TypedOperand> in, Role role, const TensorType& x,
                   int64_t heads) {
  const TensorType* scale = find_operand(in, role);
  require((scale != nullptr) == is_quantized(x.dtype), "attention",
          fmt::format("{} goes with 8-bit codes", to_string(role)));
  if (scale == nullptr) return;
  const Shape parts{x.shape.num_rows() * heads};
  const bool per_part = heads > 0 && scale->shape == parts;
  require(scale->dtype == DType::kF32 && (scale->shape == Shape{1} || per_part), "attention",
          fmt::format("{} is {}, wanted f32[1]{}", to_string(role), to_string(*scale),
                      heads > 0 ? " or f32" + to_string(parts) : ""));
}

// Of q as it is given or computed.
TensorType query_type(std::span<const TypedOperand> in, const TensorType& k) {
  if (!projects_queries(in)) {
    for (const Role role : {Role::kX, Role::kXScale, Role::kWScale}) {
      require(find_operand(in, role) == nullptr, "attention",
              fmt::format("{} goes with a weight", to_string(role)));
    }
    return need_operand(in, Role::kQ, "attention");
  }
  require(find_operand(in, Role::kQ) == nullptr && find_operand(in, Role::kQScale) == nullptr,
          "attention", "wants q, or x and the weight that q is computed with");
  require(is_floating(k.dtype) && !is_quantized(k.dtype), "attention",
          "computes q for floating keys only");
  std::vector<TypedOperand> operands;
  std::ranges::copy_if(in, std::back_inserter(operands),
                       [](const TypedOperand& o) { return is_of_query_linear(o.role); });
  const TensorType q = infer(query_linear(in), operands).front();
  require(q.dtype == k.dtype, "attention",
          fmt::format("x gives q {}, which is not of k's type {}", to_string(q), to_string(k)));
  return q;
}

DType result_type(const Attention& op, std::span<const TypedOperand> in, DType q) {
  if (const TensorType* y_scale = find_operand(in, Role::kYScale)) {
    require(*y_scale == TensorType{DType::kF32, {1}}, "attention",
            fmt::format("y_scale is {}, wanted f32[1]", to_string(*y_scale)));
    require(op.out == DType::kI8 || op.out == DType::kF8E4M3, "attention",
            "with y_scale out is i8 or f8e4m3");
    return op.out;
  }
  require(is_floating(op.out) && !is_quantized(op.out), "attention",
          "without y_scale out is a floating type");
  if (is_quantized(q)) return op.out;
  require(op.out == DType::kF32, "attention",
          "out is given only when q is quantized or with y_scale");
  return q;
}

}  // namespace

std::vector<TensorType> infer(const Attention& op, std::span<const TypedOperand> in) {
  const TensorType& k = need_operand(in, Role::kK, "attention");
  const TensorType q = query_type(in, k);
  const TensorType& v = need_operand(in, Role::kV, "attention");
  require(q.shape.rank() == 3 && k.shape.rank() == 3 && k.shape == v.shape, "attention",
          "wants q [b, tq, c] and k, v [b, tk, c]");
  require(q.shape[0] == k.shape[0] && q.shape[2] == k.shape[2], "attention",
          fmt::format("q {} does not fit k {}", to_string(q), to_string(k)));
  require(op.heads >= 1 && q.shape[2] % op.heads == 0, "attention",
          fmt::format("{} channels do not divide into {} heads", q.shape[2], op.heads));
  require(!op.causal || q.shape[1] == k.shape[1], "attention",
          "causal wants as many keys as queries");
  const bool codes = is_quantized(q.dtype);
  require(is_quantized(k.dtype) == codes && (!codes || q.dtype == k.dtype), "attention",
          fmt::format("q {} does not multiply k {}", to_string(q), to_string(k)));
  require(q.dtype != DType::kU8 && (!is_quantized(v.dtype) || v.dtype == DType::kF8E4M3),
          "attention", "codes are i8 (q, k) or f8e4m3");
  require_scale(in, Role::kQScale, q, op.heads);
  require_scale(in, Role::kKScale, k, op.heads);
  require_scale(in, Role::kVScale, v, 0);
  require(op.probabilities == DType::kF32 || op.probabilities == DType::kF8E4M3, "attention",
          "probabilities are f32 or f8e4m3");
  return {{result_type(op, in, q.dtype), q.shape}};
}

bool projects_queries(std::span<const TypedOperand> in) {
  return find_operand(in, Role::kWeight) != nullptr;
}

bool is_of_query_linear(Role role) {
  return role == Role::kX || role == Role::kWeight || role == Role::kXScale ||
         role == Role::kWScale;
}

Linear query_linear(std::span<const TypedOperand> in) {
  Linear linear;
  if (is_quantized(need_operand(in, Role::kX, "attention").dtype)) {
    linear.out = need_operand(in, Role::kK, "attention").dtype;
  }
  return linear;
}

bool is_quantized(const Attention& op, std::span<const TypedOperand> in) {
  return op.probabilities != DType::kF32 || find_operand(in, Role::kQScale) != nullptr ||
         find_operand(in, Role::kVScale) != nullptr;
}

std::vector<TensorType> infer(const Center& /*op*/, std::span<const TypedOperand> in) {
  const TensorType& x = need_operand(in, Role::kX, "center");
  require(x.shape.rank() == 3 && is_floating(x.dtype) && !is_quantized(x.dtype), "center",
          fmt::format("x is {}, wanted floats [b, t, c]", to_string(x)));
  return {x};
}

}  // namespace halftone::graph
