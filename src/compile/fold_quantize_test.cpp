// Q/DQ graphs folded into quantized ops: structure, and the same numbers on the reference.
#include <cmath>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "compile/compile.h"
#include "reference/reference.h"
#include "tensor/computed_weights.h"

namespace halftone::compile {
namespace {

using graph::Graph;

// norm -> quantize per token -> q, k of an attention; a requantized chain of linears.
constexpr std::string_view kGraph = R"(input %0 "x" f32[2,3,8] step
weight %1 "g" f32[8]
weight %2 "b" f32[8]
node "norm" layer_norm{eps=1e-05} x=%0 gamma=%1 beta=%2 -> %3 f32[2,3,8] step
node "nq" quantize{dtype=i8 bits=8 granularity=per_token dynamic=true narrow=false} x=%3 -> %4 i8[2,3,8] step %5 f32[6] step
node "ndq" dequantize{dtype=f32 bits=8 granularity=per_token} x=%4 x_scale=%5 -> %6 f32[2,3,8] step
weight %7 "w1" f32[8,8]
node "w1q" quantize{dtype=i8 bits=8 granularity=per_channel dynamic=true narrow=true} x=%7 -> %8 i8[8,8] load %9 f32[8] load
node "w1d" dequantize{dtype=f32 bits=8 granularity=per_channel} x=%8 x_scale=%9 -> %10 f32[8,8] load
node "first" linear{activation=none geglu=false} x=%6 weight=%10 -> %11 f32[2,3,8] step
literal %12 "s" f32[1] cdcc4c3d
node "fq" quantize{dtype=i8 bits=8 granularity=per_tensor dynamic=false narrow=false} x=%11 x_scale=%12 -> %13 i8[2,3,8] step
node "fdq" dequantize{dtype=f32 bits=8 granularity=per_tensor} x=%13 x_scale=%12 -> %14 f32[2,3,8] step
weight %15 "w22" f32[8,8]
node "w2q" quantize{dtype=i8 bits=8 granularity=per_channel dynamic=true narrow=true} x=%15 -> %16 i8[8,8] load %17 f32[8] load
node "w2d" dequantize{dtype=f32 bits=8 granularity=per_channel} x=%16 x_scale=%17 -> %18 f32[8,8] load
node "second" linear{activation=none geglu=false} x=%14 weight=%18 -> %19 f32[2,3,8] step
weight %20 "w333" f32[8,8]
node "w3q" quantize{dtype=u8 bits=4 granularity=per_channel dynamic=true narrow=true} x=%20 -> %21 u8[8,4] load %22 f32[8] load
node "w3d" dequantize{dtype=f32 bits=4 granularity=per_channel} x=%21 x_scale=%22 -> %23 f32[8,8] load
node "third" linear{activation=none geglu=false} x=%19 weight=%23 -> %24 f32[2,3,8] step
output "y" %24
)";

ComputedWeights waves() {
  return ComputedWeights([](const std::string& name, size_t i) {
    const double phase = 0.7 * static_cast<double>(i * i % 101 + 3 * name.size());
    return static_cast<float>(std::sin(phase));
  });
}

std::vector<float> evaluated(const Graph& graph) {
  std::map<std::string, Tensor> inputs;
  Tensor x({DType::kF32, {2, 3, 8}});
  int i = 0;
  for (float& v : x.values<float>()) v = static_cast<float>(std::cos(1.1 * i++));
  inputs.emplace("x", std::move(x));
  const auto outputs = reference::evaluate(graph, inputs, waves());
  const auto values = outputs.at("y").values<float>();
  return {values.begin(), values.end()};
}

size_t count(const Graph& graph, std::string_view op) {
  size_t n = 0;
  for (const graph::Node& node : graph.nodes()) n += name_of(node.attrs) == op ? 1U : 0U;
  return n;
}

void expect_equal(const Graph& graph) {
  const std::vector<float> wanted = evaluated(graph::parse(kGraph));
  const std::vector<float> got = evaluated(graph);
  for (size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_NEAR(got[i], wanted[i], 1e-5F * std::fabs(wanted[i]) + 1e-5F) << i;
  }
}

TEST(FoldQuantize, OperandsNormsAndResults) {
  Graph graph = graph::parse(kGraph);
  run_passes(graph, {});
  EXPECT_EQ(count(graph, "dequantize"), 0U) << print(graph);
  EXPECT_EQ(count(graph, "quantize"), 3U) << "weights only\n" << print(graph);
  const std::string text = print(graph);
  EXPECT_NE(text.find("out=i8 granularity=per_token dynamic=true"), std::string::npos) << text;
  EXPECT_NE(text.find("y_scale="), std::string::npos) << text;
  expect_equal(graph);
}

// What adds floats leaves its codes to a pass of their own.
TEST(FoldQuantize, ResultsWithAResidualStayFloats) {
  std::string text(kGraph);
  constexpr std::string_view kFirst = "x=%6 weight=%10";
  text.insert(text.find(kFirst) + kFirst.size(), " residual=%0");
  Graph graph = graph::parse(text);
  run_passes(graph, {});
  EXPECT_EQ(count(graph, "dequantize"), 0U) << print(graph);
  EXPECT_EQ(count(graph, "quantize"), 4U) << "weights, and what `first` makes\n" << print(graph);
  EXPECT_EQ(print(graph).find("y_scale="), std::string::npos) << print(graph);
}

TEST(FoldQuantize, WhatNoKernelTakesStaysASimulation) {
  Graph graph = graph::parse(kGraph);
  CompileOptions options;
  options.has_kernel = [](const graph::OpDesc& desc) {
    return !std::holds_alternative<graph::LayerNorm>(desc.attrs) &&
           desc.input(graph::Role::kYScale) == nullptr;
  };
  run_passes(graph, options);
  EXPECT_EQ(count(graph, "quantize"), 5U) << print(graph);
  EXPECT_EQ(count(graph, "dequantize"), 0U) << print(graph);
  expect_equal(graph);
  options.has_kernel = [](const graph::OpDesc&) { return false; };
  Graph apart = graph::parse(kGraph);
  run_passes(apart, options);
  EXPECT_EQ(count(apart, "dequantize"), 5U) << print(apart);
  EXPECT_EQ(evaluated(apart), evaluated(graph::parse(kGraph)));
}

// Enlarging commutes with rounding: codes are enlarged, and the norm before makes them.
TEST(FoldQuantize, CodesAreEnlargedInsteadOfValues) {
  constexpr std::string_view kEnlarged = R"(input %0 "x" f32[1,2,2,8] step
weight %1 "g" f32[8]
weight %2 "b" f32[8]
node "norm" group_norm{groups=2 eps=1e-05 activation=silu} x=%0 gamma=%1 beta=%2 -> %3 f32[1,2,2,8] step
node "up" upsample{out_h=4 out_w=4} x=%3 -> %4 f32[1,4,4,8] step
literal %5 "s" f32[1] cdcc4c3d
node "q" quantize{dtype=i8 bits=8 granularity=per_tensor dynamic=false narrow=false} x=%4 x_scale=%5 -> %6 i8[1,4,4,8] step
node "dq" dequantize{dtype=f32 bits=8 granularity=per_tensor} x=%6 x_scale=%5 -> %7 f32[1,4,4,8] step
output "y" %7
)";
  const auto values = [](const Graph& graph) {
    std::map<std::string, Tensor> inputs;
    Tensor x({DType::kF32, {1, 2, 2, 8}});
    int i = 0;
    for (float& v : x.values<float>()) v = static_cast<float>(std::cos(1.3 * i++));
    inputs.emplace("x", std::move(x));
    const auto outputs = reference::evaluate(graph, inputs, waves());
    const auto y = outputs.at("y").values<float>();
    return std::vector<float>(y.begin(), y.end());
  };
  Graph graph = graph::parse(kEnlarged);
  run_passes(graph, {});
  EXPECT_EQ(count(graph, "quantize"), 0U) << print(graph);
  for (const graph::Node& node : graph.nodes()) {
    if (name_of(node.attrs) != "upsample") continue;
    EXPECT_EQ(graph.type(node.outputs[0]).dtype, DType::kI8) << print(graph);
  }
  EXPECT_EQ(values(graph), values(graph::parse(kEnlarged)));
}

TEST(FoldQuantize, CanBeSwitchedOff) {
  Graph graph = graph::parse(kGraph);
  CompileOptions options;
  options.disabled_passes = {"fold_quantize"};
  run_passes(graph, options);
  EXPECT_EQ(count(graph, "dequantize"), 5U);
}

// attention -> quantize -> linear on codes, the shape of a block's attention and output projection.
constexpr std::string_view kToCodes = R"(input %0 "x" f32[2,3,8] step
node "a" attention{heads=2 scale=0.5 causal=false} q=%0 k=%0 v=%0 -> %1 f32[2,3,8] step
literal %2 "s" f32[1] 0ad7233c
node "aq" quantize{dtype=i8 bits=8 granularity=per_tensor dynamic=false narrow=false} x=%1 x_scale=%2 -> %3 i8[2,3,8] step
node "adq" dequantize{dtype=f32 bits=8 granularity=per_tensor} x=%3 x_scale=%2 -> %4 f32[2,3,8] step
weight %5 "w1" f32[8,8]
node "wq" quantize{dtype=i8 bits=8 granularity=per_channel dynamic=true narrow=true} x=%5 -> %6 i8[8,8] load %7 f32[8] load
node "wd" dequantize{dtype=f32 bits=8 granularity=per_channel} x=%6 x_scale=%7 -> %8 f32[8,8] load
node "out" linear{activation=none geglu=false} x=%4 weight=%8 -> %9 f32[2,3,8] step
output "y" %9
)";

size_t steps_named(const Graph& graph, std::string_view op) {
  size_t n = 0;
  for (const graph::Node& node : graph.nodes()) {
    n += name_of(node.attrs) == op && graph.value(node.outputs[0]).rate == graph::Rate::kStep ? 1U
                                                                                              : 0U;
  }
  return n;
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

TEST(FoldQuantize, AttentionWritesCodes) {
  for (const std::string_view dtype : {"i8", "f8e4m3"}) {
    std::string text = replaced(std::string(kToCodes), "i8", dtype);
    if (dtype != "i8") text = replaced(text, "narrow=true", "narrow=false");
    Graph graph = graph::parse(text);
    const std::vector<float> wanted = evaluated(graph);
    run_passes(graph, {});
    EXPECT_EQ(steps_named(graph, "quantize") + count(graph, "dequantize"), 0U) << print(graph);
    EXPECT_EQ(graph.nodes().size(), 3U) << "weight, attention, linear\n" << print(graph);
    EXPECT_NE(print(graph).find("causal=false out=" + std::string(dtype)), std::string::npos)
        << print(graph);
    // f32 operands: nothing is rounded between, so the codes are the same.
    const std::vector<float> got = evaluated(graph);
    for (size_t i = 0; i < wanted.size(); ++i) EXPECT_NEAR(got[i], wanted[i], 1e-5F) << i;
  }
}

TEST(FoldQuantize, AttentionKeepsItsValuesWhereTheyAreReadOrNoKernelMakesCodes) {
  CompileOptions options;
  options.has_kernel = [](const graph::OpDesc& desc) {
    return !std::holds_alternative<graph::Attention>(desc.attrs) ||
           desc.input(graph::Role::kYScale) == nullptr;
  };
  Graph refused = graph::parse(kToCodes);
  run_passes(refused, options);
  EXPECT_EQ(steps_named(refused, "quantize"), 1U) << print(refused);
  EXPECT_EQ(count(refused, "dequantize"), 0U) << "the linear is folded all the same";
  const std::string kept[] = {
      std::string(kToCodes) + "output \"attention\" %1\n",
      // A scale of its own for each token, and smoothing: the attention knows neither.
      replaced(replaced(std::string(kToCodes), "per_tensor", "per_token"), "f32[1] 0ad7233c",
               "f32[6] 0ad7233c0ad7233c0ad7233c0ad7233c0ad7233c0ad7233c"),
      replaced(std::string(kToCodes), "x=%1 x_scale=%2", "x=%1 gamma=%5 x_scale=%2"),
  };
  for (std::string text : kept) {
    if (text.find("gamma=%5") != std::string::npos) {
      text = replaced(text, "weight %5 \"w1\" f32[8,8]\n", "weight %10 \"w1\" f32[8,8]\n");
      text = replaced(text, "x=%5 -> %6", "x=%10 -> %6");
      text = "weight %5 \"gamma\" f32[8]\n" + text;
    }
    Graph graph = graph::parse(text);
    const std::vector<float> wanted = evaluated(graph);
    run_passes(graph, {});
    EXPECT_EQ(steps_named(graph, "quantize"), 1U) << print(graph);
    EXPECT_EQ(print(graph).find("y_scale="), std::string::npos) << print(graph);
    const std::vector<float> got = evaluated(graph);
    for (size_t i = 0; i < wanted.size(); ++i) EXPECT_NEAR(got[i], wanted[i], 1e-5F) << i;
  }
}

// norm -> codes -> q, k and v, whose codes have one scale -> attention -> codes of to_out's input.
constexpr std::string_view kSelfAttention = R"(input %0 "x" f32[2,3,8] step
weight %1 "g" f32[8]
weight %2 "b" f32[8]
node "norm" layer_norm{eps=1e-05} x=%0 gamma=%1 beta=%2 -> %3 f32[2,3,8] step
node "nq" quantize{dtype=i8 bits=8 granularity=per_token dynamic=true narrow=false} x=%3 -> %4 i8[2,3,8] step %5 f32[6] step
node "nd" dequantize{dtype=f32 bits=8 granularity=per_token} x=%4 x_scale=%5 -> %6 f32[2,3,8] step
literal %7 "s" f32[1] 0000003c
literal %8 "t" f32[1] cdcc4c3c
weight %20 "wq" f32[8,8]
node "a.wqq" quantize{dtype=i8 bits=8 granularity=per_channel dynamic=true narrow=true} x=%20 -> %21 i8[8,8] load %22 f32[8] load
node "a.wqd" dequantize{dtype=f32 bits=8 granularity=per_channel} x=%21 x_scale=%22 -> %23 f32[8,8] load
node "a.to_q" linear{activation=none geglu=false} x=%6 weight=%23 -> %24 f32[2,3,8] step
node "a.qq" quantize{dtype=f8e4m3 bits=8 granularity=per_tensor dynamic=false narrow=false} x=%24 x_scale=%7 -> %25 f8e4m3[2,3,8] step
node "a.qd" dequantize{dtype=f32 bits=8 granularity=per_tensor} x=%25 x_scale=%7 -> %26 f32[2,3,8] step
weight %30 "wqq" f32[8,8]
node "a.wkq" quantize{dtype=i8 bits=8 granularity=per_channel dynamic=true narrow=true} x=%30 -> %31 i8[8,8] load %32 f32[8] load
node "a.wkd" dequantize{dtype=f32 bits=8 granularity=per_channel} x=%31 x_scale=%32 -> %33 f32[8,8] load
node "a.to_k" linear{activation=none geglu=false} x=%6 weight=%33 -> %34 f32[2,3,8] step
node "a.kq" quantize{dtype=f8e4m3 bits=8 granularity=per_tensor dynamic=false narrow=false} x=%34 x_scale=%7 -> %35 f8e4m3[2,3,8] step
node "a.kd" dequantize{dtype=f32 bits=8 granularity=per_tensor} x=%35 x_scale=%7 -> %36 f32[2,3,8] step
weight %40 "wqqq" f32[8,8]
node "a.wvq" quantize{dtype=i8 bits=8 granularity=per_channel dynamic=true narrow=true} x=%40 -> %41 i8[8,8] load %42 f32[8] load
node "a.wvd" dequantize{dtype=f32 bits=8 granularity=per_channel} x=%41 x_scale=%42 -> %43 f32[8,8] load
node "a.to_v" linear{activation=none geglu=false} x=%6 weight=%43 -> %44 f32[2,3,8] step
node "a.vq" quantize{dtype=f8e4m3 bits=8 granularity=per_tensor dynamic=false narrow=false} x=%44 x_scale=%7 -> %45 f8e4m3[2,3,8] step
node "a.vd" dequantize{dtype=f32 bits=8 granularity=per_tensor} x=%45 x_scale=%7 -> %46 f32[2,3,8] step
node "a" attention{heads=2 scale=0.5 causal=false probabilities=f8e4m3} q=%26 k=%36 v=%46 -> %50 f32[2,3,8] step
node "oq" quantize{dtype=i8 bits=8 granularity=per_tensor dynamic=false narrow=false} x=%50 x_scale=%8 -> %51 i8[2,3,8] step
node "od" dequantize{dtype=f32 bits=8 granularity=per_tensor} x=%51 x_scale=%8 -> %52 f32[2,3,8] step
weight %53 "w4444" f32[8,8]
node "wq" quantize{dtype=i8 bits=8 granularity=per_channel dynamic=true narrow=true} x=%53 -> %54 i8[8,8] load %55 f32[8] load
node "wd" dequantize{dtype=f32 bits=8 granularity=per_channel} x=%54 x_scale=%55 -> %56 f32[8,8] load
node "out" linear{activation=none geglu=false} x=%52 weight=%56 -> %57 f32[2,3,8] step
output "y" %57
)";

// It in FP8 throughout; with a static scale of the norm's codes.
std::string self_attention(bool fp8, bool is_static) {
  std::string text(kSelfAttention);
  if (is_static) {
    text = replaced(
        text,
        "granularity=per_token dynamic=true narrow=false} x=%3 -> %4 i8[2,3,8] step %5 f32[6] step",
        "granularity=per_tensor dynamic=false narrow=false} x=%3 x_scale=%5 -> %4 i8[2,3,8] step");
    text = replaced(text, "per_token", "per_tensor");
    text = replaced(text, "node \"nq\"", "literal %5 \"u\" f32[1] 0ad7a33c\nnode \"nq\"");
  }
  if (fp8) {
    text = replaced(text, "i8", "f8e4m3");
    text = replaced(text, "narrow=true", "narrow=false");
  }
  return text;
}

// Its nodes of a step, and which values are codes.
std::vector<std::string> steps_of(const Graph& graph) {
  std::vector<std::string> steps;
  for (const graph::Node& node : graph.nodes()) {
    const graph::Value& y = graph.value(node.outputs[0]);
    if (y.rate != graph::Rate::kStep) continue;
    steps.push_back(std::string(name_of(node.attrs)) + " " + std::string(to_string(y.type.dtype)));
  }
  return steps;
}

TEST(FoldQuantize, ASelfAttentionIsCodesThroughout) {
  for (const bool fp8 : {false, true}) {
    for (const bool is_static : {false, true}) {
      SCOPED_TRACE(fmt::format("fp8 {} static {}", fp8, is_static));
      Graph graph = graph::parse(self_attention(fp8, is_static));
      const std::vector<float> wanted = evaluated(graph);
      run_passes(graph, {});
      const std::string codes = fp8 ? "f8e4m3" : "i8";
      EXPECT_EQ(steps_of(graph),
                (std::vector<std::string>{"layer_norm " + codes, "linear f8e4m3", "slice f8e4m3",
                                          "slice f8e4m3", "slice f8e4m3", "attention " + codes,
                                          "linear f32"}))
          << print(graph);
      const std::vector<float> got = evaluated(graph);
      for (size_t i = 0; i < wanted.size(); ++i) {
        EXPECT_NEAR(got[i], wanted[i], 1e-5F * std::fabs(wanted[i]) + 1e-5F) << i;
      }
    }
  }
}

// Where no linear ends in codes, one pass over the whole makes them; where no attention takes them,
// they become values again.
TEST(FoldQuantize, ASelfAttentionIsSimulatedWhereKernelsLack) {
  const std::vector<float> wanted = evaluated(graph::parse(self_attention(true, false)));
  CompileOptions options;
  options.has_kernel = [](const graph::OpDesc& desc) {
    return !std::holds_alternative<graph::Linear>(desc.attrs) ||
           desc.input(graph::Role::kYScale) == nullptr;
  };
  Graph quantized = graph::parse(self_attention(true, false));
  run_passes(quantized, options);
  EXPECT_EQ(steps_of(quantized),
            (std::vector<std::string>{"layer_norm f8e4m3", "linear f32", "quantize f8e4m3",
                                      "slice f8e4m3", "slice f8e4m3", "slice f8e4m3",
                                      "attention f8e4m3", "linear f32"}))
      << print(quantized);
  options.has_kernel = [](const graph::OpDesc& desc) {
    return desc.input(graph::Role::kQScale) == nullptr;
  };
  Graph simulated = graph::parse(self_attention(true, false));
  run_passes(simulated, options);
  EXPECT_EQ(count(simulated, "dequantize"), 3U) << print(simulated);
  for (const Graph* graph : {&quantized, &simulated}) {
    const std::vector<float> got = evaluated(*graph);
    for (size_t i = 0; i < wanted.size(); ++i) {
      EXPECT_NEAR(got[i], wanted[i], 1e-5F * std::fabs(wanted[i]) + 1e-5F) << i;
    }
  }
}

// q and k by head and token through reshapes, v per tensor; probabilities rounded.
TEST(FoldQuantize, AttentionTakesCodes) {
  constexpr std::string_view kAttention = R"(input %0 "x" f32[2,3,8] step
node "parts" reshape{shape=2,3,2,4} x=%0 -> %1 f32[2,3,2,4] step
node "q" quantize{dtype=i8 bits=8 granularity=per_token dynamic=true narrow=false} x=%1 -> %2 i8[2,3,2,4] step %3 f32[12] step
node "dq" dequantize{dtype=f32 bits=8 granularity=per_token} x=%2 x_scale=%3 -> %4 f32[2,3,2,4] step
node "joined" reshape{shape=2,3,8} x=%4 -> %5 f32[2,3,8] step
literal %6 "s" f32[1] cdcc4c3d
node "v" quantize{dtype=f8e4m3 bits=8 granularity=per_tensor dynamic=false narrow=false} x=%0 x_scale=%6 -> %7 f8e4m3[2,3,8] step
node "dv" dequantize{dtype=f32 bits=8 granularity=per_tensor} x=%7 x_scale=%6 -> %8 f32[2,3,8] step
node "a" attention{heads=2 scale=0.5 causal=false probabilities=f8e4m3} q=%5 k=%5 v=%8 -> %9 f32[2,3,8] step
output "y" %9
)";
  Graph graph = graph::parse(kAttention);
  const std::vector<float> wanted = evaluated(graph);
  run_passes(graph, {});
  EXPECT_EQ(count(graph, "dequantize"), 0U) << print(graph);
  EXPECT_NE(print(graph).find("q_scale="), std::string::npos) << print(graph);
  EXPECT_NE(print(graph).find("v_scale="), std::string::npos);
  const std::vector<float> got = evaluated(graph);
  for (size_t i = 0; i < wanted.size(); ++i) EXPECT_NEAR(got[i], wanted[i], 1e-5F) << i;
  // A kernel that takes no codes: an exact simulation stays.
  CompileOptions options;
  options.has_kernel = [](const graph::OpDesc& desc) {
    return desc.input(graph::Role::kQScale) == nullptr;
  };
  Graph apart = graph::parse(kAttention);
  run_passes(apart, options);
  EXPECT_EQ(count(apart, "dequantize"), 2U) << print(apart);
  EXPECT_EQ(evaluated(apart), wanted);
}

}  // namespace
}  // namespace halftone::compile
