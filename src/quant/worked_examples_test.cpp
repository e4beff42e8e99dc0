// A worked example by hand for every scheme: small numbers, every step in a comment. docs/
// quantization.md summarises them. Each recipe is applied to a one-layer graph and evaluated by the
// scalar reference, so the numbers are those of the whole path.
#include <algorithm>
#include <array>
#include <map>

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "quant/apply.h"
#include "quant/schemes/scheme.h"
#include "reference/reference.h"
#include "tensor/computed_weights.h"
#include "tensor/quantized.h"

namespace halftone::quant {
namespace {

// y = W x of two tokens, three channels in, two out.
constexpr std::string_view kLinear = R"(input %0 "x" f32[1,2,3] step
weight %1 "w" f32[2,3]
node "ff.net.2" linear{activation=none geglu=false} x=%0 weight=%1 -> %2 f32[1,2,2] step
output "y" %2
)";
// A 1x1 convolution of one pixel.
constexpr std::string_view kConv = R"(input %0 "x" f32[1,1,1,2] step
weight %1 "w" f32[1,1,1,2]
node "conv1" conv2d{stride=1 pad_begin=0 pad_end=0 activation=none} x=%0 weight=%1 -> %2 f32[1,1,1,1] step
output "y" %2
)";

ComputedWeights weight_of(const std::vector<float>& values) {
  return ComputedWeights([&values](const std::string& /*name*/, size_t i) { return values.at(i); });
}

// A record of one call in which the layer's input was `columns` at most.
CalibrationRecord record_of(const std::string& layer, std::vector<float> columns, float low,
                            float high) {
  CalibrationRecord record;
  record.num_steps = 1;
  record.samples = 1;
  const float amax = *std::ranges::max_element(columns);
  ValueStats stats{.channels = static_cast<int64_t>(columns.size()),
                   .sum = {amax},
                   .max = {amax},
                   .min = {amax},
                   .calls = {1},
                   .low = low,
                   .high = high,
                   .column_amax = std::move(columns),
                   .histogram = {}};
  record.values.emplace(layer, std::move(stats));
  record.layers.emplace(layer, layer);
  return record;
}

std::vector<float> run(std::string_view graph_text, const Recipe& recipe,
                       const CalibrationRecord* record, const std::vector<float>& weight,
                       const std::vector<float>& x) {
  graph::Graph graph = graph::parse(graph_text);
  const ComputedWeights weights = weight_of(weight);
  static_cast<void>(apply(graph, recipe, record, weights));
  Tensor input(graph.type(0));
  std::ranges::copy(x, input.values<float>().begin());
  std::map<std::string, Tensor> inputs;
  inputs.emplace("x", std::move(input));
  const auto outputs = reference::evaluate(graph, inputs, weights);
  const auto y = outputs.at("y").values<float>();
  return {y.begin(), y.end()};
}

SchemeOptions scheme(std::string name, double level = 3) {
  SchemeOptions options;
  options.scheme = std::move(name);
  options.policy = "none";
  options.level = level;
  return options;
}

void expect_floats(const std::vector<float>& got, const std::vector<float>& wanted) {
  ASSERT_EQ(got.size(), wanted.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_FLOAT_EQ(got[i], wanted[i]) << i;
}

// int8, convolution, static. x = (0.5, -2.54), w = (1, 0.25), exact y = -0.135.
//   record: amax 1.27          scale of x = 1.27 / 127 = 0.01
//   q_x = rne(50), rne(-254)   = 50, -128 (clipped: -1.28 is kept of -2.54)
//   scale of w = 1 / 127       q_w = 127, rne(31.75) = 127, 32
//   y = 0.01 / 127 * (50 * 127 - 128 * 32) = 0.01 / 127 * 2254 = 0.177480
TEST(WorkedExample, Int8StaticConvolution) {
  const auto record = record_of("conv1", {1.27F, 1.27F}, -1.27F, 1.27F);
  const auto y = run(kConv, make_recipe(scheme("int8", 1)), &record, {1, 0.25F}, {0.5F, -2.54F});
  expect_floats(y, {0.01F / 127.0F * 2254.0F});
}

// int8, linear, SmoothQuant with alpha 0.5, dynamic scale per token.
//   W = (4 1 0.25; -2 0.5 1), largest of its columns w = (4, 1, 1); of x's a = (1, 4, 0.25)
//   s_j = sqrt(w_j / a_j) = (2, 0.5, 2)
//   W / s = (2 2 0.125; -1 1 0.5)  scales 2/127, 1/127   q_w = (127 127 rne(7.94) = 8), (-127 127
//                                                         rne(63.5) = 64)
//   token 1: x = (1, -4, 0.25), x s = (2, -2, 0.5)       scale 2/127   q_x = (127, -127, 32)
//     y = 2/127 * 2/127 * (127*127 - 127*127 + 32*8)        = 4/16129 * 256    = 0.063488
//         2/127 * 1/127 * (-127*127 - 127*127 + 32*64)      = 2/16129 * -30210 = -3.746047
//     exact: 0.0625, -3.75
//   token 2: x = (0, 0, 0): the least scale, 1e-12; y = 0.
TEST(WorkedExample, Int8PerTokenLinearWithSmoothQuant) {
  SchemeOptions options = scheme("int8");
  options.alpha = 0.5;
  const auto record = record_of("ff.net.2", {1, 4, 0.25F}, -4, 1);
  const auto y = run(kLinear, make_recipe(options), &record, {4, 1, 0.25F, -2, 0.5F, 1},
                     {1, -4, 0.25F, 0, 0, 0});
  expect_floats(y, {4.0F / 16129.0F * 256.0F, 2.0F / 16129.0F * -30210.0F, 0, 0});
}

// int8_dynamic: the same without smoothing and record.
//   W = (1 0 0.5; 0 1 0), scales 1/127        q_w = (127 0 rne(63.5) = 64), (0 127 0)
//   x = (1, 2, -0.5)  scale 2/127             q_x = (rne(63.5) = 64, 127, rne(-31.75) = -32)
//   y = 2/127/127 * (64*127 - 32*64) = 2/16129 * 6080 = 0.753921 (exact 0.75); 2/16129 * 16129 = 2
TEST(WorkedExample, Int8Dynamic) {
  const auto y = run(kLinear, make_recipe(scheme("int8_dynamic")), nullptr, {1, 0, 0.5F, 0, 1, 0},
                     {1, 2, -0.5F, 0, 0, 0});
  expect_floats(y, {2.0F / 16129.0F * 6080.0F, 2, 0, 0});
}

// int8_weightonly: x stays. W = (1 0.3 0; 2 0 -1): scales 1/127, 2/127;
//   q_w = (127, rne(38.1) = 38, 0), (127, 0, rne(-63.5) = -64)
//   x = (1, 1, 1): y = 165/127 = 1.299213 (exact 1.3), 2/127 * 63 = 0.992126 (exact 1)
TEST(WorkedExample, Int8WeightOnly) {
  const auto y = run(kLinear, make_recipe(scheme("int8_weightonly")), nullptr,
                     {1, 0.3F, 0, 2, 0, -1}, {1, 1, 1, 0, 0, 0});
  expect_floats(y, {165.0F / 127.0F, 126.0F / 127.0F, 0, 0});
}

// int4_weightonly: the same with 7 steps, W = (1 0.3 0; 2 0 -0.9): scales 1/7, 2/7;
//   q_w = (7, rne(2.1) = 2, 0), (7, 0, rne(-3.15) = -3)
//   y = 9/7 = 1.285714 (exact 1.3), 2/7 * 4 = 1.142857 (exact 1.1)
// Three 4-bit codes do not fill bytes, so they are kept one a byte.
TEST(WorkedExample, Int4WeightOnly) {
  const auto y = run(kLinear, make_recipe(scheme("int4_weightonly")), nullptr,
                     {1, 0.3F, 0, 2, 0, -0.9F}, {1, 1, 1, 0, 0, 0});
  expect_floats(y, {9.0F / 7.0F, 8.0F / 7.0F, 0, 0});
}

// E4M3 has 3 bits behind the point: between 256 and 448 its values are 32 apart, between 128 and
// 256 16 apart, between 64 and 128 8 apart.
// fp8, convolution, static: record amax 4.48, scale of x 0.01; w = (448, 100), scale 1.
//   x = (3, 9): 300 -> 288 (288 and 320 are neighbours, 300 is nearer to 288); 900 -> 448,
//   saturated w: 448, 100 -> 96 (96 and 104; 100 is the middle: the even code, 96) y = 0.01 * (288
//   * 448 + 448 * 96) = 1720.32
TEST(WorkedExample, Fp8StaticConvolution) {
  const auto record = record_of("conv1", {4.48F, 4.48F}, -4.48F, 4.48F);
  const auto y = run(kConv, make_recipe(scheme("fp8")), &record, {448, 100}, {3, 9});
  expect_floats(y, {1720.32F});
}

// fp8_e4m3_e4m3_dynamic_per_tensor: one scale for all of x, one for all of W.
//   x = (4.48 1 0; 0.3 0 0): scale 0.01: 448, 100 -> 96, 30 -> 30 (30 is a value: 15 * 2)
//   W = (1 1 0; 0.5 0 0): scale 1/448: 448, 448; 224
//   y = 0.01/448 * (448*448 + 96*448) = 5.44 (exact 5.48); 0.01/448 * 448*224 = 2.24
//       0.01/448 * 30*448 = 0.3; 0.01/448 * 30*224 = 0.15
TEST(WorkedExample, Fp8DynamicPerTensor) {
  const auto y = run(kLinear, make_recipe(scheme("fp8_e4m3_e4m3_dynamic_per_tensor")), nullptr,
                     {1, 1, 0, 0.5F, 0, 0}, {4.48F, 1, 0, 0.3F, 0, 0});
  expect_floats(y, {5.44F, 2.24F, 0.3F, 0.15F});
}

// fp8_e4m3_e4m3_dynamic: a scale for each token and each row of W.
//   token 2 = (0.3, 0.07, 0): scale 0.3/448: 448, 104.53 -> 104
//   W = (1 1 0; 0.5 0 0): scales 1/448, 0.5/448: 448 448; 448
//   y = 0.3/448/448 * 448 * (448 + 104) = 0.3/448 * 552 = 0.369643 (exact 0.37); 0.3 * 0.5 = 0.15
TEST(WorkedExample, Fp8DynamicPerToken) {
  const auto y = run(kLinear, make_recipe(scheme("fp8_e4m3_e4m3_dynamic")), nullptr,
                     {1, 1, 0, 0.5F, 0, 0}, {4.48F, 0, 0, 0.3F, 0.07F, 0});
  expect_floats(y, {4.48F, 2.24F, 0.3F / 448.0F * 552.0F, 0.15F});
}

// MixDQ: inputs asymmetric, 8 bits, x from -0.55 to 2 (a convolution's record).
//   scale = 2.55 / 255 = 0.01   zero = rne(0.55 / 0.01) - 128 = 55 - 128 = -73
//   x = (1.234, -3): q = rne(123.4) - 73 = 50; rne(-300) - 73 -> -128, clipped
//   back: 0.01 * (50 + 73) = 1.23; 0.01 * (-128 + 73) = -0.55
//   w = (1, 0.5), scale 1/127: 127, rne(63.5) = 64
//   y = 1.23 + -0.55 * 64/127 = 0.952835
TEST(WorkedExample, MixdqAsymmetric) {
  LayerSpec spec;
  spec.weight = channel_weights(DType::kI8);
  spec.activation = QuantSpec{.symmetric = false};
  Recipe recipe;
  recipe.scheme = "mixdq";
  recipe.rules.push_back({"conv1", LayerKind::kConv, spec, ""});
  const auto record = record_of("conv1", {2, 0.55F}, -0.55F, 2);
  const auto y = run(kConv, recipe, &record, {1, 0.5F}, {1.234F, -3});
  expect_floats(y, {1.23F - 0.55F * 64.0F / 127.0F});
}

// Codes of 4 bits: two a byte, the first in the low half; of 2 bits: four. Two's complement.
//   4 bits: 7, -7, -1, 3      = 0x7, 0x9, 0xF, 0x3          -> bytes 0x97, 0x3F
//   2 bits: 1, -1, 0, -2      = 01, 11, 00, 10 from the low end -> byte 10 00 11 01 = 0x8D
TEST(WorkedExample, PackedCodes) {
  std::array<uint8_t, 2> four{};
  const std::array<int32_t, 4> codes{7, -7, -1, 3};
  for (int64_t i = 0; i < 4; ++i) put_packed(four.data(), i, 4, codes[static_cast<size_t>(i)]);
  EXPECT_EQ(four, (std::array<uint8_t, 2>{0x97, 0x3F}));
  for (int64_t i = 0; i < 4; ++i) {
    EXPECT_EQ(packed_at(four.data(), i, 4), codes[static_cast<size_t>(i)]);
  }
  uint8_t two = 0;
  int64_t at = 0;
  for (const int32_t code : {1, -1, 0, -2}) put_packed(&two, at++, 2, code);
  EXPECT_EQ(two, 0x8D);
  EXPECT_EQ(packed_at(&two, 3, 2), -2);
}

// Attention in FP8, one query, two keys, head width 16 (the rest is 0), scale 1.
//   q = 1, k = (0, ln 2 -> 0.693147), static amax 4.48: scale 0.01
//     q: 100 -> 96 -> 0.96; k: 69.3147 -> 72 (64 and 72 are neighbours) -> 0.72
//   scores 0, 0.96 * 0.72 = 0.6912; weights exp(-0.6912) = 0.500975, 1
//     times 448: 224.437 -> 224 (16 apart), 448
//   v = (2, 1), amax 4.48: 200 -> 192 (192 and 208; 200 is the middle: the even code, 192) -> 1.92;
//                          100 -> 96 -> 0.96
//   y = (224 * 1.92 + 448 * 0.96) / (448 * 1.500975) = 860.16 / 672.4368 = 1.279168
// Exactly: weights 0.5 and 1, y = (0.5 * 2 + 1) / 1.5 = 1.333333.
TEST(WorkedExample, Fp8Attention) {
  constexpr std::string_view kAttention = R"(input %0 "q" f32[1,1,16] step
input %1 "k" f32[1,2,16] step
input %2 "v" f32[1,2,16] step
node "attn1.attention" attention{heads=1 scale=1 causal=false} q=%0 k=%1 v=%2 -> %3 f32[1,1,16] step
output "y" %3
)";
  graph::Graph graph = graph::parse(kAttention);
  CalibrationRecord record;
  for (const char* name : {"q", "k", "v"}) {
    const std::string value = std::string("attn1.attention/") + name;
    std::vector<float> columns(16, 0.0F);
    columns[0] = 4.48F;
    CalibrationRecord one = record_of(value, columns, 0, 4.48F);
    record.values.merge(one.values);
    record.layers.merge(one.layers);
  }
  const std::vector<float> nothing;
  const ComputedWeights none = weight_of(nothing);
  const Applied applied = apply(graph, make_recipe(scheme("fp8", 4)), &record, none);
  ASSERT_EQ(applied.layers.size(), 1U);
  EXPECT_TRUE(applied.layers[0].attention) << applied.layers[0].why;
  std::map<std::string, Tensor> inputs;
  const auto put = [&](const std::string& name, const std::vector<float>& firsts) {
    Tensor x = Tensor::zeros({DType::kF32, {1, static_cast<int64_t>(firsts.size()), 16}});
    for (size_t i = 0; i < firsts.size(); ++i) x.values<float>()[i * 16] = firsts[i];
    inputs.emplace(name, std::move(x));
  };
  put("q", {1});
  put("k", {0, 0.693147F});
  put("v", {2, 1});
  const auto outputs = reference::evaluate(graph, inputs, none);
  EXPECT_NEAR(outputs.at("y").values<float>()[0], 1.279168F, 1e-5F);
}

}  // namespace
}  // namespace halftone::quant
