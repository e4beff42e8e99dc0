// Quantized ops against numbers worked out by hand.
#include <cmath>
#include <cstring>

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "reference/reference.h"
#include "tensor/quantized.h"

namespace halftone::reference {
namespace {

using graph::Activation;
using graph::Granularity;
using graph::OpAttrs;
using graph::Role;

using Operands = std::vector<std::pair<Role, Tensor>>;

std::vector<Tensor> run(const OpAttrs& attrs, const Operands& operands) {
  std::vector<std::pair<Role, const Tensor*>> borrowed;
  for (const auto& [role, tensor] : operands) borrowed.emplace_back(role, &tensor);
  return evaluate_op(attrs, borrowed);
}

template <class T>
Tensor tensor(DType dtype, Shape shape, const std::vector<T>& values) {
  Tensor t({dtype, std::move(shape)});
  std::ranges::copy(values, t.values<T>().begin());
  return t;
}
Tensor floats(Shape shape, const std::vector<float>& values) {
  return tensor<float>(DType::kF32, std::move(shape), values);
}
Tensor bytes(Shape shape, const std::vector<int8_t>& values) {
  return tensor<int8_t>(DType::kI8, std::move(shape), values);
}
template <class T>
std::vector<T> list(const Tensor& t) {
  return {t.template values<T>().begin(), t.template values<T>().end()};
}

Operands operands(Role role, Tensor t) {
  Operands result;
  result.emplace_back(role, std::move(t));
  return result;
}
template <class... Rest>
Operands operands(Role role, Tensor t, Rest&&... rest) {
  Operands result = operands(role, std::move(t));
  for (auto& operand : operands(std::forward<Rest>(rest)...)) result.push_back(std::move(operand));
  return result;
}

TEST(QuantizeReference, StaticPerTensorRoundsHalfToEvenAndSaturates) {
  // scale 0.5: 1/scale = 2. 0.25 -> 0.5 -> 0; 0.75 -> 1.5 -> 2; 1.25 -> 2.5 -> 2; 100 -> 200 ->
  // 127.
  const auto y = run(graph::Quantize{},
                     operands(Role::kX, floats({6}, {0.25F, 0.75F, 1.25F, 100.0F, -100.0F, -0.75F}),
                              Role::kXScale, floats({1}, {0.5F})));
  EXPECT_EQ(list<int8_t>(y[0]), (std::vector<int8_t>{0, 2, 2, 127, -128, -2}));
}

TEST(QuantizeReference, DynamicPerTokenScalesEachRow) {
  const auto y = run(graph::Quantize{DType::kI8, 8, Granularity::kPerToken, true, false},
                     operands(Role::kX, floats({3, 2}, {12.7F, -25.4F, 0.0F, 0.0F, 1.0F, 0.5F})));
  EXPECT_EQ(list<float>(y[1]), (std::vector<float>{25.4F / 127.0F, kMinScale, 1.0F / 127.0F}));
  // 12.7 / 0.2 = 63.5 and 0.5 * 127 = 63.5 round to even.
  EXPECT_EQ(list<int8_t>(y[0]), (std::vector<int8_t>{64, -127, 0, 0, 127, 64}));
}

// Rows of 81 columns: the last part has one. NaNs are passed over, there as here.
TEST(QuantizeReference, AmaxOfALinearGivesTheScale) {
  std::vector<float> weight(81, 0.0F);
  weight[3] = -2.0F;
  weight[80] = 0.5F;
  std::vector<float> x(65, 1.0F);
  x[64] = 3.0F;
  x[7] = std::nanf("");
  const auto y = run(graph::Linear{.amax = true}, operands(Role::kX, floats({65, 1}, x),
                                                           Role::kWeight, floats({81, 1}, weight)));
  ASSERT_EQ(y[1].type(), (TensorType{DType::kF32, {2, 2}}));
  EXPECT_EQ(list<float>(y[1]), (std::vector<float>{2.0F, 0.5F, 6.0F, 1.5F}));
  const graph::Quantize op{DType::kF8E4M3, 8, Granularity::kPerTensor, true, false};
  const auto alone = run(op, operands(Role::kX, y[0].clone()));
  const auto by_amax = run(op, operands(Role::kX, y[0].clone(), Role::kAmax, y[1].clone()));
  EXPECT_EQ(list<float>(by_amax[1]), (std::vector<float>{6.0F / 448.0F}));
  EXPECT_EQ(list<float>(alone[1]), list<float>(by_amax[1]));
  EXPECT_EQ(list<uint8_t>(alone[0]), list<uint8_t>(by_amax[0]));
  // It is read: of half the magnitudes the scale is half.
  const auto half = run(
      op, operands(Role::kX, y[0].clone(), Role::kAmax, floats({2, 2}, {1.0F, 0.0F, 0.0F, 3.0F})));
  EXPECT_EQ(list<float>(half[1]), (std::vector<float>{3.0F / 448.0F}));
}

TEST(QuantizeReference, WeightsPerChannelAndUniform) {
  const std::vector<float> w{1.2F, -2.0F, 0.3F, 0.5F};
  const auto channel = run(graph::Quantize{DType::kI8, 4, Granularity::kPerChannel, true, true},
                           operands(Role::kX, floats({2, 2}, w)));
  EXPECT_EQ(list<float>(channel[1]), (std::vector<float>{2.0F / 7.0F, 0.5F / 7.0F}));
  EXPECT_EQ(list<int8_t>(channel[0]), (std::vector<int8_t>{4, -7, 4, 7}));  // 4.2, -7, 4.2, 7
  const auto uniform = run(graph::Quantize{DType::kI8, 4, Granularity::kUniform, true, true},
                           operands(Role::kX, floats({2, 2}, w)));
  EXPECT_EQ(list<float>(uniform[1]), (std::vector<float>{2.0F / 7.0F, 2.0F / 7.0F}));
  EXPECT_EQ(list<int8_t>(uniform[0]), (std::vector<int8_t>{4, -7, 1, 2}));  // 4.2, -7, 1.05, 1.75
}

TEST(QuantizeReference, PackedIntegersComeBack) {
  for (const int64_t bits : {2, 4}) {
    const std::vector<float> w{-3.0F, 1.0F, 0.0F, 2.0F, 3.0F, -1.0F, -2.0F, 1.0F};
    const Operands x = operands(Role::kX, floats({1, 8}, w));
    const auto packed =
        run(graph::Quantize{DType::kU8, bits, Granularity::kPerChannel, true, false}, x);
    const auto plain =
        run(graph::Quantize{DType::kI8, bits, Granularity::kPerChannel, true, false}, x);
    for (int64_t i = 0; i < 8; ++i) {
      EXPECT_EQ(packed_at(packed[0].view().as<const uint8_t>(), i, bits),
                plain[0].values<int8_t>()[static_cast<size_t>(i)]);
    }
    const graph::Dequantize back{DType::kF32, bits, Granularity::kPerChannel};
    EXPECT_EQ(list<float>(run(back, operands(Role::kX, packed[0].clone(), Role::kXScale,
                                             packed[1].clone()))[0]),
              list<float>(run(
                  back, operands(Role::kX, plain[0].clone(), Role::kXScale, plain[1].clone()))[0]));
  }
  // -1 (1111) and 2 (0010): the first element lies in the low bits.
  const auto y =
      run(graph::Quantize{DType::kU8, 4, Granularity::kPerTensor, false, false},
          operands(Role::kX, floats({2}, {-1.0F, 2.0F}), Role::kXScale, floats({1}, {1.0F})));
  EXPECT_EQ(y[0].values<uint8_t>()[0], 0x2f);
}

TEST(QuantizeReference, ZeroPointShiftsAndComesBack) {
  // MixDQ's asymmetric activations: x in [-1, 3], 8 bits: scale 4/255, zp = 64, stored less 128.
  const float scale = 4.0F / 255.0F;
  const auto q = run(graph::Quantize{}, operands(Role::kX, floats({4}, {-1.0F, 0.0F, 3.0F, 9.0F}),
                                                 Role::kXScale, floats({1}, {scale}), Role::kXZero,
                                                 tensor<int32_t>(DType::kI32, {1}, {64 - 128})));
  EXPECT_EQ(list<int8_t>(q[0]), (std::vector<int8_t>{-128, -64, 127, 127}));  // -63.75 -> -64
  const auto x = run(graph::Dequantize{},
                     operands(Role::kX, q[0].clone(), Role::kXScale, floats({1}, {scale}),
                              Role::kXZero, tensor<int32_t>(DType::kI32, {1}, {64 - 128})));
  EXPECT_EQ(list<float>(x[0])[1], 0.0F);
  EXPECT_EQ(list<float>(x[0])[2], scale * 191.0F);
}

TEST(QuantizeReference, F8SaturatesAndRoundsToEven) {
  const auto q = run(graph::Quantize{DType::kF8E4M3, 8, Granularity::kPerTensor, false, false},
                     operands(Role::kX, floats({5}, {1.0F, 17.0F, 19.0F, 1000.0F, -0.001F}),
                              Role::kXScale, floats({1}, {1.0F})));
  const auto x = run(graph::Dequantize{},
                     operands(Role::kX, q[0].clone(), Role::kXScale, floats({1}, {1.0F})));
  // 17 and 19 lie between 16, 18 and 20; -0.001 is half of the smallest subnormal 2^-9 = .00195.
  EXPECT_EQ(list<float>(x[0]), (std::vector<float>{1.0F, 16.0F, 20.0F, 448.0F, -0x1p-9F}));
}

TEST(QuantizeReference, GammaMultipliesFirst) {
  const auto y = run(graph::Quantize{DType::kI8, 8, Granularity::kPerTensor, false, false},
                     operands(Role::kX, floats({2, 2}, {1.0F, 100.0F, 2.0F, -300.0F}), Role::kGamma,
                              floats({2}, {10.0F, 0.1F}), Role::kXScale, floats({1}, {1.0F})));
  EXPECT_EQ(list<int8_t>(y[0]), (std::vector<int8_t>{10, 10, 20, -30}));
}

TEST(QuantizedLinear, IntegerSumsThenScalesBiasResidual) {
  // row 0: 1*3 + 2*(-4) = -5, 1*5 + 2*6 = 17; row 1: -128*3 + 127*(-4) = -892, -640 + 762 = 122.
  const auto base = [] {
    return operands(Role::kX, bytes({2, 2}, {1, 2, -128, 127}), Role::kWeight,
                    bytes({2, 2}, {3, -4, 5, 6}), Role::kXScale, floats({2}, {0.5F, 0.25F}),
                    Role::kWScale, floats({2}, {2.0F, 1.0F}), Role::kBias,
                    floats({2}, {1.0F, -1.0F}));
  };
  const auto y = run(graph::Linear{}, base());
  EXPECT_EQ(list<float>(y[0]), (std::vector<float>{-4.0F, 7.5F, -445.0F, 29.5F}));
  Operands more = base();
  more.emplace_back(Role::kResidual, floats({2, 2}, {0.5F, 0.25F, 1.0F, 1.0F}));
  more.emplace_back(Role::kYScale, floats({1}, {2.0F}));
  // (-3.5, 7.75, -444, 30.5) / 2 = -1.75, 3.875, -222, 15.25.
  const auto q = run(graph::Linear{Activation::kNone, false, DType::kI8}, more);
  EXPECT_EQ(list<int8_t>(q[0]), (std::vector<int8_t>{-2, 4, -128, 15}));
}

TEST(QuantizedLinear, PackedWeightsMultiplyAsTheirIntegers) {
  const auto y =
      run(graph::Linear{}, operands(Role::kX, bytes({1, 2}, {10, 3}), Role::kWeight,
                                    tensor<uint8_t>(DType::kU8, {1, 1}, {0x2f}), Role::kXScale,
                                    floats({1}, {1.0F}), Role::kWScale, floats({1}, {0.5F})));
  EXPECT_EQ(list<float>(y[0]), (std::vector<float>{-2.0F}));  // (10 * -1 + 3 * 2) / 2
  const auto only =
      run(graph::Linear{}, operands(Role::kX, floats({1, 2}, {1.5F, 2.0F}), Role::kWeight,
                                    tensor<uint8_t>(DType::kU8, {1, 1}, {0x2f}), Role::kWScale,
                                    floats({1}, {0.5F})));
  EXPECT_EQ(list<float>(only[0]), (std::vector<float>{1.25F}));  // (-1.5 + 4) / 2
}

TEST(QuantizedLinear, EachFloatStepRoundsOnItsOwn) {
  // acc = 1040 * 127 * 127 + 127 * 24 + 9 = 2^24 + 1, as a float 2^24; + 1 rounds to 2^24 again.
  std::vector<int8_t> x(1042, 127), w(1042, 127);
  w[1040] = 24;
  x[1041] = 9;
  w[1041] = 1;
  const auto y = run(graph::Linear{},
                     operands(Role::kX, bytes({1, 1042}, x), Role::kWeight, bytes({1, 1042}, w),
                              Role::kXScale, floats({1}, {1.0F}), Role::kWScale,
                              floats({1}, {1.0F}), Role::kBias, floats({1}, {1.0F})));
  EXPECT_EQ(y[0].values<float>()[0], 16777216.0F);
}

TEST(QuantizedConv, PaddingIsTheRealZero) {
  // 1x1x3x1 input, kernel 1x3 over (pad 1): sums of neighbours.
  const auto y = run(graph::Conv2d{.stride = 1, .pad_begin = 1, .pad_end = 1},
                     operands(Role::kX, bytes({1, 1, 3, 1}, {100, -50, 25}), Role::kWeight,
                              bytes({1, 3, 3, 1}, {0, 0, 0, 1, 2, 3, 0, 0, 0}), Role::kXScale,
                              floats({1}, {0.1F}), Role::kWScale, floats({1}, {10.0F})));
  // 200 - 150 = 50; 100 - 100 + 75 = 75; -50 + 50 = 0; scale 0.1 * 10 = 1.
  EXPECT_EQ(list<float>(y[0]), (std::vector<float>{50.0F, 75.0F, 0.0F}));
}

TEST(QuantizedNorm, LayerNormEndsInPerTokenCodes) {
  const auto y = run(
      graph::LayerNorm{
          .eps = 0.0, .out = DType::kI8, .granularity = Granularity::kPerToken, .dynamic = true},
      operands(Role::kX, floats({1, 4}, {1.0F, 3.0F, 1.0F, 3.0F}), Role::kGamma,
               floats({4}, {1.0F, 1.0F, 2.0F, 4.0F}), Role::kBeta,
               floats({4}, {0.0F, 0.0F, 0.0F, 0.0F})));
  EXPECT_EQ(list<float>(y[1]), (std::vector<float>{4.0F / 127.0F}));  // (-1, 1, -2, 4)
  EXPECT_EQ(list<int8_t>(y[0]), (std::vector<int8_t>{-32, 32, -64, 127}));
}

TEST(QuantizedNorm, GroupNormStaticScale) {
  const auto y = run(graph::GroupNorm{.groups = 1, .eps = 0.0, .out = DType::kI8},
                     operands(Role::kX, floats({1, 2, 2}, {1.0F, 3.0F, 1.0F, 3.0F}), Role::kGamma,
                              floats({2}, {1.0F, 2.0F}), Role::kBeta, floats({2}, {0.0F, 0.5F}),
                              Role::kYScale, floats({1}, {0.25F})));
  EXPECT_EQ(list<int8_t>(y[0]), (std::vector<int8_t>{-4, 10, -4, 10}));
}

// One key: the result is its value, not rounded to a type of 16 bits; ties to even, saturated.
TEST(QuantizedAttention, EndsInCodes) {
  const std::vector<float> values{0.375F, -0.625F, 40.0F, -40.0F};
  const auto codes_of = [&](DType out) {
    return run(graph::Attention{.heads = 2, .scale = 0.5, .out = out},
               operands(Role::kQ, floats({1, 1, 4}, {1, 2, 3, 4}), Role::kK,
                        floats({1, 1, 4}, {4, 3, 2, 1}), Role::kV, floats({1, 1, 4}, values),
                        Role::kYScale, floats({1}, {0.25F})));
  };
  EXPECT_EQ(list<int8_t>(codes_of(DType::kI8)[0]), (std::vector<int8_t>{2, -2, 127, -128}));
  std::vector<uint8_t> f8;
  for (const float v : values) f8.push_back(quantize_f8e4m3(v, 4.0F));
  EXPECT_EQ(list<uint8_t>(codes_of(DType::kF8E4M3)[0]), f8);
}

// As the linear of the queries and then the attention, also where the queries are rounded.
TEST(QuantizedAttention, ProjectsItsQueries) {
  const auto waves = [](const Shape& shape, double step) {
    std::vector<float> values;
    for (int64_t i = 0; i < shape.num_elements(); ++i) {
      values.push_back(static_cast<float>(std::sin(step * static_cast<double>(i) + 1.0)));
    }
    return floats(shape, values).to(DType::kF16);
  };
  const Tensor x = waves({2, 3, 6}, 0.7);
  const Tensor weight = waves({8, 6}, 1.1);
  const Tensor k = waves({2, 5, 8}, 0.9);
  const Tensor v = waves({2, 5, 8}, 1.3);
  const graph::Attention attention{2, 0.5};
  const auto equal = [](const Tensor& a, const Tensor& b) {
    EXPECT_EQ(a.type(), b.type());
    EXPECT_EQ(std::memcmp(a.data(), b.data(), a.type().num_bytes()), 0);
  };
  const Tensor q =
      std::move(evaluate_op(graph::Linear{}, {{Role::kX, &x}, {Role::kWeight, &weight}})[0]);
  const auto wanted = evaluate_op(attention, {{Role::kQ, &q}, {Role::kK, &k}, {Role::kV, &v}});
  const auto got = evaluate_op(
      attention, {{Role::kX, &x}, {Role::kWeight, &weight}, {Role::kK, &k}, {Role::kV, &v}});
  equal(got[0], wanted[0]);

  const auto codes = evaluate_op(
      graph::Quantize{DType::kI8, 8, Granularity::kPerToken, true, false}, {{Role::kX, &x}});
  const auto weight_codes = evaluate_op(
      graph::Quantize{DType::kI8, 8, Granularity::kPerChannel, true, false}, {{Role::kX, &weight}});
  const std::vector<std::pair<Role, const Tensor*>> products{{Role::kX, &codes[0]},
                                                             {Role::kWeight, &weight_codes[0]},
                                                             {Role::kXScale, &codes[1]},
                                                             {Role::kWScale, &weight_codes[1]}};
  const Tensor q8 = std::move(evaluate_op(graph::Linear{.out = DType::kF16}, products)[0]);
  auto with_codes = products;
  with_codes.insert(with_codes.end(), {{Role::kK, &k}, {Role::kV, &v}});
  equal(evaluate_op(attention, with_codes)[0],
        evaluate_op(attention, {{Role::kQ, &q8}, {Role::kK, &k}, {Role::kV, &v}})[0]);
}

TEST(ScaleReference, RowsAndColumns) {
  const auto rows = run(graph::Scale{0}, operands(Role::kX, floats({2, 2}, {1, 2, 3, 4}),
                                                  Role::kGamma, floats({2}, {10, 100})));
  EXPECT_EQ(list<float>(rows[0]), (std::vector<float>{10, 20, 300, 400}));
  const auto columns = run(graph::Scale{-1}, operands(Role::kX, floats({2, 2}, {1, 2, 3, 4}),
                                                      Role::kGamma, floats({2}, {10, 100})));
  EXPECT_EQ(list<float>(columns[0]), (std::vector<float>{10, 200, 30, 400}));
}

TEST(ReduceReference, StatisticsOfEachGranularity) {
  const std::vector<float> x{1, -2, 3, -4, 0.5F, -0.25F};
  const auto reduce = [&](graph::Reduction reduction, Granularity granularity) {
    return list<float>(
        run(graph::Reduce{reduction, granularity}, operands(Role::kX, floats({3, 2}, x)))[0]);
  };
  using graph::Reduction;
  EXPECT_EQ(reduce(Reduction::kAbsMax, Granularity::kPerTensor), (std::vector<float>{4}));
  EXPECT_EQ(reduce(Reduction::kAbsMax, Granularity::kPerColumn), (std::vector<float>{3, 4}));
  EXPECT_EQ(reduce(Reduction::kMin, Granularity::kPerToken), (std::vector<float>{-2, -4, -0.25F}));
  EXPECT_EQ(reduce(Reduction::kMax, Granularity::kPerColumn), (std::vector<float>{3, -0.25F}));
  const auto counts =
      list<int32_t>(run(graph::Histogram{}, operands(Role::kX, floats({3, 2}, x)))[0]);
  EXPECT_EQ(counts[static_cast<size_t>(graph::histogram_bin(3.0F))], 1);
  int32_t sum = 0;
  for (const int32_t n : counts) sum += n;
  EXPECT_EQ(sum, 6);
}

TEST(MovementReference, CodesMoveUnchanged) {
  Operands parts = operands(Role::kX, bytes({1, 2}, {-128, 127}), Role::kX, bytes({1, 2}, {5, -6}));
  EXPECT_EQ(list<int8_t>(run(graph::Concat{0}, parts)[0]), (std::vector<int8_t>{-128, 127, 5, -6}));
  Operands packed = operands(Role::kX, tensor<uint8_t>(DType::kU8, {1, 2}, {0xff, 0x80}), Role::kX,
                             tensor<uint8_t>(DType::kU8, {1, 2}, {0x7f, 0x01}));
  EXPECT_EQ(list<uint8_t>(run(graph::Concat{0}, packed)[0]),
            (std::vector<uint8_t>{0xff, 0x80, 0x7f, 0x01}));
}

}  // namespace
}  // namespace halftone::reference
