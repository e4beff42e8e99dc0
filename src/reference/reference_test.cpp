// The reference against numbers of torch 2 in double precision (torch.nn.functional, and diffusers'
// get_timestep_embedding). Operand i of a case holds sin(0.7 k + i + 1), k counting its elements.
#include "reference/reference.h"

#include <cmath>

#include <gtest/gtest.h>

#include "halftone/error.h"

namespace halftone::reference {
namespace {

using graph::Activation;
using graph::OpAttrs;
using graph::Role;
using graph::TypedOperand;

Tensor waves(int seed, const Shape& shape, float scale = 1.0F) {
  Tensor t({DType::kF32, shape});
  int k = 0;
  for (float& v : t.values<float>()) v = scale * static_cast<float>(std::sin(0.7 * k++ + seed));
  return t;
}

Tensor run(const OpAttrs& attrs, const std::vector<std::pair<Role, Tensor>>& operands) {
  std::vector<TypedOperand> inputs;
  std::vector<TensorView> views;
  for (const auto& [role, tensor] : operands) {
    inputs.push_back({role, tensor.type()});
    views.push_back(tensor.view());
  }
  Tensor y(infer_types(attrs, inputs).front());
  const std::vector<TypedOperand> outputs{{Role::kY, y.type()}};
  const std::vector<TensorView> y_view{y.view()};
  run_op({attrs, inputs, outputs}, views, y_view);
  return y;
}

void expect_values(const Tensor& got, const std::vector<double>& wanted) {
  const auto values = got.values<float>();
  ASSERT_EQ(values.size(), wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_NEAR(static_cast<double>(values[i]), wanted[i], 1e-7 + 3e-7 * std::fabs(wanted[i])) << i;
  }
}

template <class... Operands>
std::vector<std::pair<Role, Tensor>> list(Operands&&... operands) {
  std::vector<std::pair<Role, Tensor>> result;
  (result.push_back(std::forward<Operands>(operands)), ...);
  return result;
}

std::pair<Role, Tensor> operand(Role role, Tensor tensor) { return {role, std::move(tensor)}; }

TEST(Reference, LinearAddsBiasAndRowAddThenActivatesThenAddsTheResidual) {
  expect_values(
      run(graph::Linear{Activation::kSilu, false},
          list(operand(Role::kX, waves(1, {2, 2, 4})), operand(Role::kWeight, waves(2, {6, 4})),
               operand(Role::kBias, waves(3, {6})), operand(Role::kRowAdd, waves(4, {2, 6})),
               operand(Role::kResidual, waves(5, {2, 2, 6})))),
      {-0.742363201,  -0.684340533, 0.258237182,  0.608610719,  2.88315744,     0.582011507,
       -0.0497550369, -0.609785001, -1.02813845,  -0.215311765, -0.753890812,   3.29353654,
       1.41022809,    0.778774391,  0.880706451,  0.105780853,  -0.00897538207, -1.09130116,
       0.600422351,   -0.540646469, -0.102921719, 0.605586143,  0.881048181,    2.04537413});
}

TEST(Reference, GegluGatesTheFirstHalfByTheSecond) {
  const std::vector<double> wanted{-0.0035826774,  -3.2189692,  -0.0954056615,  -0.316747201,
                                   -0.00562356783, -6.23345413, 5.94923014e-05, -1.84324136,
                                   -0.0150974692,  0.235948609, 0.0137982681,   -3.77479678};
  expect_values(
      run(graph::Linear{Activation::kNone, true},
          list(operand(Role::kX, waves(1, {2, 2, 4})), operand(Role::kWeight, waves(2, {6, 4})),
               operand(Role::kBias, waves(3, {6})))),
      wanted);
  const Tensor product = run(graph::Linear{}, list(operand(Role::kX, waves(1, {2, 2, 4})),
                                                   operand(Role::kWeight, waves(2, {6, 4})),
                                                   operand(Role::kBias, waves(3, {6}))));
  expect_values(run(graph::Geglu{}, list(operand(Role::kX, product.clone()))), wanted);
}

TEST(Reference, ConvolutionPadsOneSideOnly) {
  expect_values(run(graph::Conv2d{2, 0, 1, Activation::kNone},
                    list(operand(Role::kX, waves(1, {1, 4, 3, 2})),
                         operand(Role::kWeight, waves(2, {2, 3, 3, 2})))),
                {4.88075233, 4.62399167, 1.98869254, 2.17439901});
}

TEST(Reference, CausalAttentionPerHead) {
  expect_values(run(graph::Attention{2, 0.5, true}, list(operand(Role::kQ, waves(1, {1, 3, 4})),
                                                         operand(Role::kK, waves(2, {1, 3, 4})),
                                                         operand(Role::kV, waves(3, {1, 3, 4})))),
                {0.141120002, -0.529836118, -0.951602101, -0.925814688, -0.317452459, 0.0341458011,
                 -0.224747456, -0.124209256, 0.30986207, -0.102964548, -0.110407549, -0.180243527});
}

TEST(Reference, GroupNorm) {
  expect_values(
      run(graph::GroupNorm{2, 1e-5, Activation::kSilu},
          list(operand(Role::kX, waves(1, {2, 3, 4})), operand(Role::kGamma, waves(2, {4})),
               operand(Role::kBeta, waves(3, {4})))),
      {0.606691492,  -0.0505420079, -0.276317589, -0.240108666, -0.256234934, -0.277886042,
       -0.197834585, -0.101607047,  0.129969081,  -0.084240089, -0.278442508, -0.272754302,
       0.101104996,  -0.277198555,  -0.23892673,  -0.143841815, -0.222446916, -0.0899821659,
       -0.278449462, -0.225989981,  1.27327938,   -0.195465351, -0.253541956, -0.106933146});
}

TEST(Reference, LayerNorm) {
  expect_values(
      run(graph::LayerNorm{1e-5},
          list(operand(Role::kX, waves(1, {2, 3, 4})), operand(Role::kGamma, waves(2, {4})),
               operand(Role::kBeta, waves(3, {4})))),
      {0.65361909,  -0.111544783, -0.978382927, 0.42201514,   0.524428917,  -1.00964483,
       -0.76623303, -2.09311088,  -1.2608221,   -0.282994923, -1.23880892,  -0.795136835,
       1.62743241,  -0.541753193, -0.711835417, -0.378863655, -1.25192993,  -0.631690335,
       -1.14703655, -1.74862726,  1.43624861,   -0.359810953, -0.789425455, 0.0458969869});
}

TEST(Reference, Activations) {
  const auto activated = [](Activation activation) {
    return run(graph::Unary{activation}, list(operand(Role::kX, waves(1, {6}, 3.0F))));
  };
  expect_values(activated(Activation::kGelu),
                {2.50978494, 2.97063621, 1.98310098, 0.0685626979, -0.0609600751, -0.00492890848});
  expect_values(activated(Activation::kGeluTanh),
                {2.51023263, 2.97105731, 1.98322185, 0.068562619, -0.0609991115, -0.004494095});
  expect_values(activated(Activation::kQuickGelu),
                {2.49050356, 2.95629954, 1.96397431, 0.0689672537, -0.0773183201, -0.0197983491});
  expect_values(activated(Activation::kSilu),
                {2.33719138, 2.83050373, 1.79039645, 0.0662560974, -0.252530201, -0.148288835});
}

TEST(Reference, SinusoidalEmbedding) {
  const Tensor y =
      run(graph::Sinusoidal{6}, list(operand(Role::kX, Tensor::from({2}, {{3.0F, 500.0F}}))));
  const std::vector<double> wanted{-0.989992499, 0.990320683,   0.999979138,  0.141120002,
                                   0.138798103,  0.00646325899, -0.883849263, -0.346652567,
                                   0.473780721,  -0.467771798,  -0.937993586, 0.880642831};
  for (size_t i = 0; i < wanted.size(); ++i) {  // torch embeds in float
    EXPECT_NEAR(static_cast<double>(y.values<float>()[i]), wanted[i], 5e-5) << i;
  }
}

TEST(Reference, NearestUpsamplingRoundsDown) {
  expect_values(run(graph::Upsample{3, 5}, list(operand(Role::kX, waves(1, {1, 2, 3, 1})))),
                {0.841470957, 0.841470957, 0.991664827, 0.991664827, 0.6754632, 0.841470957,
                 0.841470957, 0.991664827, 0.991664827, 0.6754632, 0.0415806621, 0.0415806621,
                 -0.611857891, -0.611857891, -0.977530122});
}

TEST(Reference, MaxPoolTakesTheLargestOfEachWindow) {
  expect_values(run(graph::MaxPool{2, 2}, list(operand(Role::kX, waves(1, {1, 3, 5, 2})))),
                {0.989358246, 0.991664827, -0.35822928, 0.327474445});
  expect_values(run(graph::MaxPool{3, 1}, list(operand(Role::kX, waves(1, {1, 4, 3, 1})))),
                {0.991664827, 0.989358246});
  const float nan = std::nanf("");
  const Tensor y = run(graph::MaxPool{2, 1},
                       list(operand(Role::kX, Tensor::from({1, 2, 3, 1}, {{1, nan, 2, 3, 4, 5}}))));
  EXPECT_TRUE(std::isnan(y.values<float>()[0]) && std::isnan(y.values<float>()[1]));
  EXPECT_THROW(run(graph::MaxPool{3, 2}, list(operand(Role::kX, waves(1, {1, 2, 3, 1})))), Error);
}

TEST(Reference, RoundsOnce) {
  // 1 + 2^-8 lies between two bf16; the sum is just above it, which f32 would round away first.
  const Tensor a = Tensor::from({1, 2}, {{1.0F + 0x1p-8F, 0x1p-30F}});
  Tensor y({DType::kBF16, {1, 1}});
  const OpAttrs attrs = graph::Linear{};
  const Tensor ones = Tensor::from({1, 2}, {{1.0F, 1.0F}});
  const std::vector<TypedOperand> inputs{{Role::kX, a.type()}, {Role::kWeight, ones.type()}};
  const std::vector<TypedOperand> outputs{{Role::kY, y.type()}};
  const std::vector<TensorView> in{a.view(), ones.view()}, out{y.view()};
  run_op({attrs, inputs, outputs}, in, out);
  EXPECT_EQ(y.values<uint16_t>()[0], 0x3f81);  // 1 + 2^-7
}

TEST(Reference, AnIndexOutOfRangeIsAnError) {
  Tensor index({DType::kI32, {1}});
  index.values<int32_t>()[0] = 5;
  try {
    run(graph::Embedding{},
        list(operand(Role::kIndex, std::move(index)), operand(Role::kWeight, waves(1, {5, 2}))));
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::kInvalidArgument);
    EXPECT_NE(std::string(error.what()).find("index 5 lies outside [0, 5)"), std::string::npos);
  }
}

class OneWeight final : public WeightSource {
 public:
  [[nodiscard]] bool contains(const std::string& name) const override { return name == "w"; }
  [[nodiscard]] TensorType type(const std::string& /*name*/) const override {
    return weight_.type();
  }
  void read(const std::string& /*name*/, const TensorType& type, std::byte* dst) const override {
    convert(weight_.data(), DType::kF32, dst, type.dtype, weight_.values<float>().size());
  }

 private:
  Tensor weight_ = Tensor::from({1, 2}, {{2.0F, 3.0F}});
};

TEST(Evaluate, RunsNodesAndReturnsOutputsByName) {
  graph::Graph g;
  const auto x = g.add_input("x", {DType::kF32, {1, 2}}, graph::Rate::kStep);
  const auto w = g.add_weight("w", {DType::kF32, {1, 2}});
  const auto y = g.add_node(graph::Linear{}, {{Role::kX, x}, {Role::kWeight, w}}, "product");
  const auto z = g.add_node(graph::Add{}, {{Role::kX, y}, {Role::kX, y}}, "twice");
  g.add_output("y", y);
  g.add_output("z", z);
  g.add_output("x", x);
  std::map<std::string, Tensor> inputs;
  inputs.emplace("x", Tensor::from({1, 2}, {{1.0F, 10.0F}}));
  const auto outputs = evaluate(g, inputs, OneWeight());
  EXPECT_EQ(outputs.at("y").values<float>()[0], 32.0F);
  EXPECT_EQ(outputs.at("z").values<float>()[0], 64.0F);
  EXPECT_EQ(outputs.at("x").values<float>()[1], 10.0F);
  inputs.clear();
  EXPECT_THROW(static_cast<void>(evaluate(g, inputs, OneWeight())), Error);
}

}  // namespace
}  // namespace halftone::reference
