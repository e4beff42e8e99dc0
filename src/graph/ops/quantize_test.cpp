// Types of quantized ops: what fits together, what is refused and how it is named.
#include "graph/ops/quantize.h"

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "graph/cost.h"
#include "graph/graph.h"

namespace halftone::graph {
namespace {

TypedOperand operand(Role role, DType dtype, Shape shape) {
  return {role, {dtype, std::move(shape)}};
}

TEST(QuantizedOps, QuantizeMakesCodesAndDynamicScales) {
  const TypedOperand x[] = {operand(Role::kX, DType::kBF16, {2, 3, 8})};
  const auto token = infer_types(Quantize{DType::kI8, 8, Granularity::kPerToken, true, false}, x);
  ASSERT_EQ(token.size(), 2U);
  EXPECT_EQ(to_string(token[0]), "i8[2,3,8]");
  EXPECT_EQ(to_string(token[1]), "f32[6]");
  const auto packed = infer_types(Quantize{DType::kU8, 4, Granularity::kUniform, true, true}, x);
  EXPECT_EQ(to_string(packed[0]), "u8[2,3,4]");
  EXPECT_EQ(to_string(packed[1]), "f32[2]");
  const TypedOperand scaled[] = {x[0], operand(Role::kXScale, DType::kF32, {2})};
  EXPECT_EQ(infer_types(Quantize{DType::kF8E4M3, 8, Granularity::kPerChannel, false, false}, scaled)
                .size(),
            1U);
}

TEST(QuantizedOps, LinearOutputTypes) {
  const TypedOperand x = operand(Role::kX, DType::kI8, {2, 3, 8});
  const TypedOperand weight = operand(Role::kWeight, DType::kI8, {6, 8});
  const TypedOperand w_scale = operand(Role::kWScale, DType::kF32, {6});
  const TypedOperand x_scale = operand(Role::kXScale, DType::kF32, {6});
  const TypedOperand y_scale = operand(Role::kYScale, DType::kF32, {1});
  const std::vector<TypedOperand> in{x, weight, w_scale, x_scale};
  EXPECT_EQ(to_string(infer_types(Linear{Activation::kNone, true, DType::kBF16}, in)[0]),
            "bf16[2,3,3]");
  std::vector<TypedOperand> requantized = in;
  requantized.push_back(y_scale);
  EXPECT_EQ(to_string(infer_types(Linear{Activation::kNone, false, DType::kI8}, requantized)[0]),
            "i8[2,3,6]");
  const TypedOperand half[] = {operand(Role::kX, DType::kBF16, {2, 3, 8}),
                               operand(Role::kWeight, DType::kU8, {6, 2}), w_scale};
  EXPECT_EQ(to_string(infer_types(Linear{}, half)[0]), "bf16[2,3,6]");  // 2-bit weights only
}

// The first axis of a vector is its last: a scale for each of its indices would be one an element.
TEST(QuantizedOps, VectorsHaveNoScaleForEachIndexOfTheFirstAxis) {
  const TypedOperand x[] = {operand(Role::kX, DType::kF32, {16})};
  const TypedOperand codes[] = {operand(Role::kX, DType::kI8, {16}),
                                operand(Role::kXScale, DType::kF32, {16})};
  for (const Granularity g : {Granularity::kPerChannel, Granularity::kUniform}) {
    EXPECT_THROW((void)infer_types(Quantize{DType::kI8, 8, g, true, false}, x), Error);
    EXPECT_THROW((void)infer_types(Dequantize{DType::kF32, 8, g}, codes), Error);
    EXPECT_THROW((void)infer_types(Reduce{Reduction::kMax, g}, x), Error);
  }
  EXPECT_EQ(infer_types(Quantize{DType::kI8, 8, Granularity::kPerToken, true, false}, x)[1],
            (TensorType{DType::kF32, {1}}));
}

// Values that end in codes, of values or of codes.
TEST(QuantizedOps, AttentionOutputTypes) {
  const TensorType x{DType::kF16, {2, 3, 8}};
  const std::vector<TypedOperand> in{{Role::kQ, x}, {Role::kK, x}, {Role::kV, x}};
  Attention op{2, 0.5};
  EXPECT_EQ(to_string(infer_types(op, in)[0]), "f16[2,3,8]");
  std::vector<TypedOperand> to_codes = in;
  to_codes.push_back(operand(Role::kYScale, DType::kF32, {1}));
  for (const DType out : {DType::kI8, DType::kF8E4M3}) {
    op.out = out;
    EXPECT_EQ(infer_types(op, to_codes)[0], (TensorType{out, x.shape}));
    EXPECT_FALSE(is_quantized(op, to_codes));
    EXPECT_THROW((void)infer_types(op, in), Error);
  }
  to_codes.back().type.shape = {2};
  EXPECT_THROW((void)infer_types(op, to_codes), Error);
  to_codes.back().type.shape = {1};
  for (const DType out : {DType::kF32, DType::kF16, DType::kU8}) {
    op.out = out;
    EXPECT_THROW((void)infer_types(op, to_codes), Error);
  }
}

// Queries that the attention computes have the type of its keys.
TEST(QuantizedOps, AttentionProjectsItsQueries) {
  const TensorType kv{DType::kF16, {2, 5, 8}};
  const std::vector<TypedOperand> half{operand(Role::kX, DType::kF16, {2, 3, 6}),
                                       operand(Role::kWeight, DType::kF16, {8, 6}),
                                       {Role::kK, kv},
                                       {Role::kV, kv}};
  std::vector<TypedOperand> codes{operand(Role::kX, DType::kI8, {2, 3, 6}),
                                  operand(Role::kWeight, DType::kI8, {8, 6}),
                                  operand(Role::kXScale, DType::kF32, {6}),
                                  operand(Role::kWScale, DType::kF32, {8}),
                                  {Role::kK, kv},
                                  {Role::kV, kv}};
  const Attention op{2, 0.5};
  for (const auto& in : {half, codes}) {
    EXPECT_TRUE(projects_queries(in));
    EXPECT_FALSE(is_quantized(op, in));
    EXPECT_EQ(to_string(infer_types(op, in)[0]), "f16[2,3,8]");
  }
  codes.push_back(operand(Role::kYScale, DType::kF32, {1}));
  EXPECT_EQ(to_string(infer_types(Attention{.heads = 2, .out = DType::kI8}, codes)[0]),
            "i8[2,3,8]");
  // The products are counted with those of the attention.
  const OpAttrs attrs = op;
  const std::vector<TypedOperand> out = infer_outputs(attrs, half);
  EXPECT_EQ(flop_of({attrs, half, out}), 2.0 * 6 * 6 * 8 + 4.0 * 6 * 8 * 5);
}

// Of y alone, whoever takes it; of one kind of statistics at most.
TEST(QuantizedOps, AmaxHasAPlaceForEach64RowsAnd80Columns) {
  EXPECT_EQ(amax_type({2, 65, 161}), (TensorType{DType::kF32, {3, 3}}));
  EXPECT_EQ(amax_type({8}), (TensorType{DType::kF32, {1, 1}}));
  EXPECT_EQ(amax_type({0, 80}), (TensorType{DType::kF32, {0, 1}}));
  const std::vector<TypedOperand> linear{operand(Role::kX, DType::kF16, {2, 64, 8}),
                                         operand(Role::kWeight, DType::kF16, {96, 8})};
  const OpAttrs gated = Linear{.geglu = true, .amax = true};
  const auto y = infer_outputs(gated, linear);
  ASSERT_EQ(y.size(), 2U);
  EXPECT_EQ(y[1].role, Role::kAmax);
  EXPECT_EQ(y[1].type, amax_type({2, 64, 48}));
  EXPECT_EQ(print_attrs(gated), "linear{activation=none geglu=true amax=true}");
  EXPECT_EQ(parse_attrs(print_attrs(gated)), gated);
  EXPECT_THROW((void)infer_types(Linear{.statistics_groups = 4, .amax = true}, linear), Error);
  EXPECT_THROW((void)infer_types(Linear{.row_statistics = true, .amax = true}, linear), Error);
  const std::vector<TypedOperand> conv{operand(Role::kX, DType::kF16, {1, 8, 8, 8}),
                                       operand(Role::kWeight, DType::kF16, {96, 1, 1, 8})};
  EXPECT_EQ(infer_outputs(Conv2d{.amax = true}, conv)[1].role, Role::kAmax);
  EXPECT_THROW((void)infer_types(Conv2d{.interleaved = true, .amax = true}, conv), Error);
  EXPECT_THROW((void)infer_types(Conv2d{.statistics_groups = 4, .amax = true}, conv), Error);
}

struct Bad {
  OpAttrs attrs;
  std::vector<TypedOperand> in;
  const char* message;
};

TEST(QuantizedOps, RefusesWhatDoesNotFit) {
  const TypedOperand x = operand(Role::kX, DType::kI8, {2, 8});
  const TypedOperand xf = operand(Role::kX, DType::kF32, {2, 8});
  const TypedOperand w = operand(Role::kWeight, DType::kI8, {6, 8});
  const TypedOperand ws = operand(Role::kWScale, DType::kF32, {6});
  const TypedOperand xs = operand(Role::kXScale, DType::kF32, {1});
  const TypedOperand ys = operand(Role::kYScale, DType::kF32, {1});
  const TypedOperand q = operand(Role::kQ, DType::kF32, {1, 2, 8});
  const TypedOperand k = operand(Role::kK, DType::kF32, {1, 3, 8});
  const TypedOperand kf = operand(Role::kK, DType::kF16, {1, 3, 8});
  const TypedOperand v = operand(Role::kV, DType::kF32, {1, 3, 8});
  const TypedOperand tokens = operand(Role::kX, DType::kF32, {1, 2, 6});
  const TypedOperand projection = operand(Role::kWeight, DType::kF32, {8, 6});
  const Bad cases[] = {
      {Linear{}, {x, w, ws}, "x_scale goes with"},
      {Linear{}, {x, w, xs}, "w_scale goes with"},
      {Linear{}, {xf, w, ws, xs}, "x_scale goes with"},
      {Linear{}, {x, operand(Role::kWeight, DType::kF32, {6, 8}), xs}, "does not multiply"},
      {Linear{}, {x, operand(Role::kWeight, DType::kF8E4M3, {6, 8}), xs, ws}, "does not multiply"},
      {Linear{}, {x, w, xs, operand(Role::kWScale, DType::kF32, {1})}, "wanted f32[6]"},
      {Linear{}, {x, w, ws, operand(Role::kXScale, DType::kF32, {3})}, "wanted f32[1]"},
      {Linear{Activation::kNone, false, DType::kI8}, {x, w, ws, xs}, "without y_scale"},
      {Linear{}, {x, w, ws, xs, ys}, "with y_scale"},
      {Linear{Activation::kNone, false, DType::kBF16},
       {xf, operand(Role::kWeight, DType::kF32, {6, 8})},
       "out is given only"},
      {Linear{}, {xf, operand(Role::kWeight, DType::kU8, {6, 3}), ws}, "packed weight"},
      {Conv2d{},
       {operand(Role::kX, DType::kI8, {1, 2, 2, 8}),
        operand(Role::kWeight, DType::kI8, {6, 1, 1, 8}), ws,
        operand(Role::kXScale, DType::kF32, {4})},
       "wanted f32[1]"},
      {Quantize{}, {xf}, "needs an operand 'x_scale'"},
      {Quantize{DType::kI8, 8, Granularity::kPerTensor, true, false}, {xf, xs}, "is no operand"},
      {Quantize{}, {xf, xs, operand(Role::kAmax, DType::kF32, {1, 1})}, "for a dynamic scale"},
      {Quantize{DType::kI8, 8, Granularity::kPerToken, true, false},
       {xf, operand(Role::kAmax, DType::kF32, {1, 1})},
       "for a dynamic scale"},
      {Quantize{DType::kI8, 8, Granularity::kPerTensor, true, false},
       {xf, operand(Role::kAmax, DType::kF32, {1, 1}), operand(Role::kGamma, DType::kF32, {8})},
       "without gamma"},
      {Quantize{DType::kI8, 8, Granularity::kPerTensor, true, false},
       {xf, operand(Role::kAmax, DType::kF32, {2, 1})},
       "wanted f32[1,1]"},
      {Quantize{DType::kI8, 3, Granularity::kPerTensor, false, false}, {xf, xs}, "no 3 bits"},
      {Quantize{DType::kU8, 8, Granularity::kPerTensor, false, false}, {xf, xs}, "no 8 bits"},
      {Quantize{}, {x, xs}, "wanted a floating tensor"},
      {Quantize{DType::kF8E4M3, 8, Granularity::kPerTensor, false, false},
       {xf, xs, operand(Role::kXZero, DType::kI32, {1})},
       "zero point"},
      {Dequantize{}, {xf, xs}, "dequantize"},
      {LayerNorm{.eps = 1e-5, .out = DType::kI8},
       {xf, operand(Role::kGamma, DType::kF32, {8}), operand(Role::kBeta, DType::kF32, {8})},
       "needs y_scale"},
      {Attention{2, 0.5}, {q, k, v, tokens}, "goes with a weight"},
      {Attention{2, 0.5}, {q, projection, k, v}, "wants q, or x"},
      {Attention{2, 0.5},
       {tokens, projection, k, operand(Role::kV, DType::kF32, {1, 3, 6})},
       "k, v [b, tk, c]"},
      {Attention{2, 0.5}, {tokens, projection, kf, v}, "not of k's type"},
      {Attention{2, 0.5},
       {tokens, operand(Role::kWeight, DType::kF32, {8, 5}), k, v},
       "does not fit weight"},
      {Attention{2, 0.5},
       {tokens, operand(Role::kWeight, DType::kF32, {6, 6}), k, v},
       "does not fit k"},
      {Attention{2, 0.5},
       {tokens, projection, operand(Role::kK, DType::kF8E4M3, {1, 3, 8}), v},
       "for floating keys only"},
      {Attention{2, 0.5}, {tokens, projection, xs, k, v}, "x_scale goes with"},
      {LayerNorm{.eps = 1e-5, .dynamic = true},
       {xf, operand(Role::kGamma, DType::kF32, {8}), operand(Role::kBeta, DType::kF32, {8})},
       "out is i8"},
  };
  for (const Bad& bad : cases) {
    try {
      (void)infer_types(bad.attrs, bad.in);
      ADD_FAILURE() << "accepted; wanted: " << bad.message;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::kInvalidArgument);
      EXPECT_NE(std::string(error.what()).find(bad.message), std::string::npos) << error.what();
    }
  }
}

TEST(QuantizedOps, TextHoldsSecondOutputsAndLeavesOutDefaults) {
  constexpr std::string_view kText = R"(input %0 "x" f32[2,8] step
input %1 "q" f16[1,4,8] step
weight %2 "g" f32[8]
weight %3 "b" f32[8]
node "norm" layer_norm{eps=1e-05 out=i8 granularity=per_token dynamic=true} x=%0 gamma=%2 beta=%3 -> %4 i8[2,8] step %5 f32[2] step
weight %6 "w" f32[4,8]
node "w.q" quantize{dtype=i8 bits=8 granularity=per_channel dynamic=true narrow=true} x=%6 -> %7 i8[4,8] load %8 f32[4] load
node "y" linear{activation=none geglu=false out=bf16} x=%4 weight=%7 x_scale=%5 w_scale=%8 -> %9 bf16[2,4] step
node "plain" linear{activation=none geglu=false} x=%0 weight=%6 -> %10 f32[2,4] step
literal %11 "s" f32[1] cdcc4c3d
node "codes" attention{heads=2 scale=0.5 causal=true out=i8} q=%1 k=%1 v=%1 y_scale=%11 -> %12 i8[1,4,8] step
weight %13 "p" f16[8,8]
node "projected" attention{heads=2 scale=0.5 causal=false} x=%1 weight=%13 k=%1 v=%1 -> %14 f16[1,4,8] step
output "y" %9
output "plain" %10
output "codes" %12
output "projected" %14
)";
  const Graph graph = parse(kText);
  verify(graph);
  EXPECT_EQ(print(graph), kText);
}

TEST(Histogram, BinsAreRelativeAndMeetTheirEdges) {
  EXPECT_EQ(histogram_bin(0.0F), 0);
  EXPECT_EQ(histogram_bin(-1.0F), 1 + 30 * 32);
  EXPECT_EQ(histogram_bin(1.5F), 1 + 30 * 32 + 16);
  EXPECT_EQ(histogram_bin(1e30F), kHistogramBins - 1);
  for (int64_t bin = 1; bin < kHistogramBins; ++bin) {
    EXPECT_EQ(histogram_bin(histogram_edge(bin)), bin);
    EXPECT_LT(histogram_edge(bin), histogram_edge(bin + 1));
  }
}

}  // namespace
}  // namespace halftone::graph
