#include "question.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include <gtest/gtest.h>

#include "amax.h"
#include "group_statistics.h"
#include "reference/reference.h"
#include "row_statistics.h"
#include "tensor/quantized.h"

namespace halftone::conformance {
namespace {

Tensor make_tensor(const TensorType& type, Fill fill, std::mt19937_64& random) {
  const auto n = static_cast<size_t>(type.shape.num_elements());
  if (fill == Fill::kIndices) {
    Tensor t(type);
    for (int32_t& v : t.values<int32_t>()) v = static_cast<int32_t>(random() % 5);
    return t;
  }
  if (fill == Fill::kCodes) {
    Tensor t(type);
    for (uint8_t& v : t.values<uint8_t>()) {
      v = static_cast<uint8_t>(random());
      if (type.dtype == DType::kF8E4M3 && (v & 0x7fU) == 0x7fU) v = 0;
    }
    return t;
  }
  std::vector<float> values(n);
  std::normal_distribution<float> normal;
  const int64_t terms = std::max<int64_t>(
      type.shape.rank() < 2 ? 1 : type.shape.num_elements() / std::max<int64_t>(type.shape[0], 1),
      1);
  const float scale = fill == Fill::kWeights ? 1.0F / std::sqrt(static_cast<float>(terms)) : 1.0F;
  for (float& v : values) {
    if (fill == Fill::kScales) {
      v = 0.001F + static_cast<float>(random() % 10000) * 1e-6F;
      continue;
    }
    if (fill == Fill::kWideScales || fill == Fill::kUnitScales) {
      v = (fill == Fill::kWideScales ? 0.02F : 1.0F) + static_cast<float>(random() % 10000) * 1e-6F;
      continue;
    }
    v = fill == Fill::kIntegers ? static_cast<float>(static_cast<int>(random() % 9) - 4)
                                : scale * normal(random);
    if (fill == Fill::kFar) v += 30.0F;
  }
  return Tensor::from(type.shape, values).to(type.dtype);
}

double epsilon(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return std::ldexp(1.0, -10);
    case DType::kBF16:
      return std::ldexp(1.0, -7);
    default:
      return std::ldexp(1.0, -23);
  }
}

std::vector<Tensor> run_reference(const graph::OpAttrs& attrs,
                                  std::span<const graph::TypedOperand> typed,
                                  std::span<const graph::TypedOperand> outputs,
                                  const std::vector<Tensor>& inputs) {
  std::vector<TensorView> views, y_views;
  for (const Tensor& input : inputs) views.push_back(input.view());
  std::vector<Tensor> y;
  for (const graph::TypedOperand& output : outputs) {
    y.emplace_back(output.type);
    y_views.push_back(y.back().view());
  }
  reference::run_op({attrs, typed, outputs}, views, y_views);
  return y;
}

// |u| + g (|c| + |u|): guidance of absolute values would cancel.
std::vector<double> guidance_magnitude(const std::vector<Tensor>& positive) {
  const auto x = positive[0].values<float>();
  const auto g = static_cast<double>(positive[1].values<float>()[1]);
  std::vector<double> result(x.size() / 2);
  for (size_t i = 0; i < result.size(); ++i) {
    const auto u = static_cast<double>(x[i]);
    result[i] = u + g * (static_cast<double>(x[result.size() + i]) + u);
  }
  return result;
}

// Value times gate, with the gate's own error and the residual.
std::vector<double> gated_magnitude(std::span<const float> sums, size_t width) {
  constexpr double kResidual = 4.0;
  std::vector<double> result(sums.size() / 2);
  for (size_t i = 0; i < result.size(); ++i) {
    const size_t at = i / width * 2 * width + i % width;
    result[i] =
        static_cast<double>(sums[at]) * (static_cast<double>(sums[at + width]) + 1.0) + kResidual;
  }
  return result;
}

// The same attributes without what is not a sum: activations, attention's softmax, clamping, signs.
OpAttrs linear_part(OpAttrs attrs) {
  if (auto* linear = std::get_if<graph::Linear>(&attrs)) {
    *linear = {};
  } else if (auto* conv = std::get_if<graph::Conv2d>(&attrs)) {
    conv->activation = Activation::kNone;
    conv->out = DType::kF32;
    conv->statistics_groups = 0;
    conv->amax = false;
  } else if (auto* attention = std::get_if<graph::Attention>(&attrs)) {
    attention->scale = 0.0;
    attention->out = DType::kF32;
  } else if (auto* unary = std::get_if<graph::Unary>(&attrs)) {
    unary->activation = Activation::kNone;
  } else if (auto* affine = std::get_if<graph::Affine>(&attrs)) {
    *affine = {std::fabs(affine->scale), std::fabs(affine->shift)};
  }
  return attrs;
}

// |codes| of integers; packed ones are those of a weight for `channels` channels.
Tensor positive_integers(const Tensor& t, int64_t channels) {
  Tensor result = t.clone();
  if (t.type().dtype == DType::kU8) {  // packed
    const int64_t row = t.shape().row_size();
    const int64_t bits = row * 8 / std::max<int64_t>(channels, 1);
    std::ranges::fill(result.values<uint8_t>(), uint8_t{0});
    for (int64_t i = 0; i < t.shape().num_rows() * channels; ++i) {
      const int64_t at = i / channels * row;
      const int32_t code = packed_at(t.view().as<uint8_t>() + at, i % channels, bits);
      put_packed(result.values<uint8_t>().data() + at, i % channels, bits,
                 std::min(std::abs(code), quantized_high(bits)));
    }
  }
  if (t.type().dtype == DType::kI8) {
    for (int8_t& v : result.values<int8_t>()) {
      v = static_cast<int8_t>(std::min(std::abs(static_cast<int>(v)), 127));
    }
  }
  return result;
}

bool is_bounded_by_its_answer(const OpAttrs& attrs) {
  return std::holds_alternative<graph::GroupNorm>(attrs) ||
         std::holds_alternative<graph::LayerNorm>(attrs) ||
         std::holds_alternative<graph::Center>(attrs) ||
         std::holds_alternative<graph::Geglu>(attrs) ||
         std::holds_alternative<graph::Sinusoidal>(attrs);
}

// Its codes may be as far from the reference's as its values, of which some weights are coarse.
bool rounds_weights(const OpAttrs& attrs) {
  const auto* attention = std::get_if<graph::Attention>(&attrs);
  return attention != nullptr && attention->probabilities == DType::kF8E4M3;
}

// What the op makes of absolute values; for norms and the like, the largest answer plus one. Of
// codes where they are held as values are.
std::vector<double> magnitude_of(const Case& c, const Question& q) {
  const DType answer_type = q.answers[0].type().dtype;
  const bool is_coded = size_of(answer_type) == 1 && !rounds_weights(c.attrs);
  if (is_coded || answer_type == DType::kI32) return {};
  if (is_bounded_by_its_answer(c.attrs)) {
    const Tensor answer = q.answers[0].to(DType::kF32);
    double top = 0.0;
    for (const float v : answer.values<float>())
      top = std::max(top, std::fabs(static_cast<double>(v)));
    return std::vector<double>(answer.values<float>().size(), top + 1.0);
  }
  const auto* linear = std::get_if<graph::Linear>(&c.attrs);
  const bool is_gated = linear != nullptr && linear->geglu;
  std::vector<Tensor> positive;
  std::vector<graph::TypedOperand> typed;
  for (size_t i = 0; i < q.inputs.size(); ++i) {
    if (is_gated && q.typed_inputs[i].role == Role::kResidual) continue;  // has the gated shape
    if (q.typed_inputs[i].role == Role::kYScale) continue;
    if (q.typed_inputs[i].role == Role::kRowStatistics) continue;
    if (q.typed_inputs[i].role == Role::kColumnSum) continue;
    typed.push_back(q.typed_inputs[i]);
    const DType dtype = typed.back().type.dtype;
    if (!is_floating(dtype)) {
      positive.push_back(positive_integers(q.inputs[i], q.inputs[0].shape().row_size()));
      continue;
    }
    Tensor f = q.inputs[i].to(DType::kF32);
    for (float& v : f.values<float>()) v = std::fabs(v);
    positive.push_back(f.to(dtype));
  }
  if (std::holds_alternative<graph::Guidance>(c.attrs)) return guidance_magnitude(positive);
  const OpAttrs attrs = linear_part(c.attrs);
  std::vector<graph::TypedOperand> outputs = outputs_of(attrs, typed);
  if (is_floating(outputs[0].type.dtype)) outputs[0].type.dtype = DType::kF32;
  std::vector<Tensor> sums = run_reference(attrs, typed, outputs, positive);
  const auto values = sums[0].values<float>();
  scale_by_deviation(q, values);
  if (is_gated) return gated_magnitude(values, static_cast<size_t>(q.answers[0].shape()[-1]));
  return {values.begin(), values.end()};
}

// Of codes of a static scale.
double result_scale(const Question& q) {
  for (size_t i = 0; i < q.inputs.size(); ++i) {
    if (q.typed_inputs[i].role != Role::kYScale) continue;
    return static_cast<double>(q.inputs[i].values<float>()[0]);
  }
  return 1.0;
}

// Codes in the order of their values.
int code_at(const Tensor& t, size_t i) {
  const auto byte = t.values<uint8_t>()[i];
  if (t.type().dtype == DType::kI8) return static_cast<int8_t>(byte);
  if (t.type().dtype == DType::kU8) return byte;
  return (byte & 0x80U) != 0 ? -static_cast<int>(byte & 0x7fU) : static_cast<int>(byte);
}

// Up to here f8e4m3 is spaced evenly, by 2^-9.
constexpr int kEvenCodes = 16;

// How far `have` lies from the codes of what is within `slack` steps of i8 (units of f8e4m3) of the
// number whose code is element i.
int distance(const Tensor& want, size_t i, int have, double slack) {
  if (slack == 0.0) return std::abs(have - code_at(want, i));
  const bool is_integer = want.type().dtype == DType::kI8;
  const auto bound = [&](double shift) {
    Tensor code({want.type().dtype, {1}});
    const auto byte = want.values<uint8_t>()[i];
    const double number =
        is_integer ? static_cast<int8_t>(byte) : static_cast<double>(f8e4m3_to_float(byte));
    const auto moved = static_cast<float>(number + shift);
    code.values<uint8_t>()[0] =
        is_integer ? static_cast<uint8_t>(quantize_integer(moved, 1.0F, 0, -128, 127))
                   : quantize_f8e4m3(moved, 1.0F);
    return code_at(code, 0);
  };
  return std::max({0, bound(-slack) - have, have - bound(slack)});
}

// Where magnitudes are known, codes are those of values that are as close as `expect_close` wants.
void expect_codes(const Case& c, const Question& q, const Tensor& got) {
  const Tensor& want = q.answers[0];
  const double unit = q.magnitude.empty() ? 1.0 : result_scale(q);
  size_t wrong = 0;
  const size_t count = want.values<uint8_t>().size();
  auto rare = static_cast<size_t>(c.rare * static_cast<double>(count));
  for (size_t i = 0; i < count; ++i) {
    const int have = code_at(got, i);
    const int wanted = code_at(want, i);
    const double magnitude = q.magnitude.empty() ? 0.0 : q.magnitude[i] / unit;
    const int apart = distance(want, i, have, std::ldexp(c.depth, -23) * magnitude);
    const bool even = want.type().dtype == DType::kF8E4M3 &&
                      std::max(std::abs(have), std::abs(wanted)) <= kEvenCodes;
    const int steps = even ? std::max(c.steps, c.steps_near_zero) : c.steps;
    if (apart <= steps) continue;
    if (rare > 0 && (apart == steps + 1 || distance(want, i, have, magnitude) <= steps)) {
      --rare;
      continue;
    }
    if (++wrong <= 3) {
      ADD_FAILURE() << "element " << i << ": got code " << have << ", wanted " << wanted
                    << " within " << steps;
    }
  }
  EXPECT_EQ(wrong, 0U) << "of " << count << " codes";
}

// A second output is a scale: exact, or a few units of f32 from the reference's.
void expect_scales(const Case& c, const Tensor& want, const Tensor& got) {
  for (size_t i = 0; i < want.values<float>().size(); ++i) {
    const auto w = static_cast<double>(want.values<float>()[i]);
    EXPECT_NEAR(static_cast<double>(got.values<float>()[i]), w, c.depth * std::ldexp(w, -23))
        << "scale " << i;
  }
}

// What is only copied, or quantized by operations that are rounded on their own.
void expect_same(const Tensor& want, const Tensor& got) {
  EXPECT_EQ(std::memcmp(got.data(), want.data(), got.type().num_bytes()), 0)
      << to_string(got.type()) << " differs";
}

}  // namespace

std::vector<graph::TypedOperand> outputs_of(const graph::OpAttrs& attrs,
                                            std::span<const graph::TypedOperand> typed) {
  return infer_outputs(attrs, typed);
}

Question types_of(const Case& c) {
  Question q;
  for (const Input& input : c.inputs) q.typed_inputs.push_back({input.role, input.type});
  q.typed_outputs = outputs_of(c.attrs, q.typed_inputs);
  return q;
}

Question make_question(const Case& c) {
  Question q = types_of(c);
  std::mt19937_64 random(std::hash<std::string>{}(c.name));
  for (const Input& input : c.inputs) {
    q.inputs.push_back(make_tensor(input.type, input.fill, random));
  }
  derive_inputs(c, q);
  q.answers = run_reference(c.attrs, q.typed_inputs, q.typed_outputs, q.inputs);
  q.magnitude = magnitude_of(c, q);
  return q;
}

void expect_close(const Case& c, const Question& q, const std::vector<Tensor>& all,
                  double inner_roundings) {
  for (size_t i = 1; i < all.size(); ++i) {
    if (q.typed_outputs[i].role == Role::kRowStatistics) {
      expect_row_statistics(all[0], all[i]);
    } else if (q.typed_outputs[i].role == Role::kGroupStatistics) {
      expect_group_statistics(all[0], all[i]);
    } else if (q.typed_outputs[i].role == Role::kJoined) {
      expect_same(q.answers[i], all[i]);
    } else if (q.typed_outputs[i].role == Role::kAmax) {
      expect_amax(all[0], all[i]);
    } else if (std::holds_alternative<graph::NormWeight>(c.attrs)) {
      expect_sums(q.answers[i], all[i]);
    } else {
      expect_scales(c, q.answers[i], all[i]);
    }
  }
  const Tensor& got = all[0];
  if (size_of(got.type().dtype) == 1) return expect_codes(c, q, got);
  if (got.type().dtype == DType::kI32) {
    return expect_same(q.answers[0], got);
  }
  const Tensor y = got.to(DType::kF32);
  const Tensor r = q.answers[0].to(DType::kF32);
  const double eps = epsilon(got.type().dtype);
  size_t wrong = 0;
  auto rare = static_cast<size_t>(c.rare * static_cast<double>(q.magnitude.size()));
  for (size_t i = 0; i < y.values<float>().size(); ++i) {
    const auto have = static_cast<double>(y.values<float>()[i]);
    const auto want = static_cast<double>(r.values<float>()[i]);
    const double bound = c.roundings * eps * std::fabs(want) +
                         (c.depth * std::ldexp(1.0, -23) + inner_roundings * eps) * q.magnitude[i];
    // f16 results below its normal range are spaced evenly.
    const double floor =
        c.roundings * (got.type().dtype == DType::kF16 ? std::ldexp(1.0, -24) : 0.0);
    if (std::fabs(have - want) <= std::max(bound, floor)) continue;
    if (rare > 0 && std::fabs(have - want) <= q.magnitude[i]) {
      --rare;
      continue;
    }
    if (++wrong <= 3) {
      ADD_FAILURE() << "element " << i << ": got " << have << ", wanted " << want << " within "
                    << bound;
    }
  }
  EXPECT_EQ(wrong, 0U) << "of " << q.magnitude.size() << " elements";
}

}  // namespace halftone::conformance
