// Attentions in 8 bits: what is inserted, folded, tapped and reported.
#include "quant/attention.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "quant/apply.h"
#include "quant/schemes/scheme.h"
#include "quant/taps.h"
#include "reference/reference.h"
#include "tensor/computed_weights.h"

namespace halftone::quant {
namespace {

using graph::Graph;
using graph::Node;

// Self-attention with heads of 16 and its output, and a text attention with heads of 8.
constexpr std::string_view kGraph = R"(input %0 "x" f32[1,6,32] step
weight %1 "u/attn1.to_q.weight" f32[32,32]
node "attn1.to_q" linear{activation=none geglu=false} x=%0 weight=%1 -> %2 f32[1,6,32] step
weight %3 "u/attn1.to_k.weight" f32[32,32]
node "attn1.to_k" linear{activation=none geglu=false} x=%0 weight=%3 -> %4 f32[1,6,32] step
weight %5 "u/attn1.to_v.weight" f32[32,32]
node "attn1.to_v" linear{activation=none geglu=false} x=%0 weight=%5 -> %6 f32[1,6,32] step
node "attn1.attention" attention{heads=2 scale=0.25 causal=false} q=%2 k=%4 v=%6 -> %7 f32[1,6,32] step
weight %8 "u/attn1.to_out.0.weight" f32[32,32]
node "attn1.to_out.0" linear{activation=none geglu=false} x=%7 weight=%8 -> %9 f32[1,6,32] step
node "attn2.attention" attention{heads=4 scale=0.25 causal=false} q=%9 k=%9 v=%9 -> %10 f32[1,6,32] step
output "y" %10
)";

// The first attention's keys and values come of a prompt.
std::string text_graph() {
  std::string text(kGraph);
  const auto put = [&](std::string_view from, std::string_view to) {
    text.replace(text.find(from), from.size(), to);
  };
  put("node \"attn1.to_q\"", "input %11 \"c\" f32[1,5,32] prompt\nnode \"attn1.to_q\"");
  put("x=%0 weight=%3 -> %4 f32[1,6,32] step", "x=%11 weight=%3 -> %4 f32[1,5,32] prompt");
  put("x=%0 weight=%5 -> %6 f32[1,6,32] step", "x=%11 weight=%5 -> %6 f32[1,5,32] prompt");
  return text;
}

ComputedWeights waves() {
  return ComputedWeights([](const std::string& name, size_t i) {
    const double phase = 1.3 * static_cast<double>(i * i % 977 + name.size());
    // Rows of to_v differ in size, so that smoothing has something to do.
    const double size = name.find("to_v") != std::string::npos && i / 32 == 5 ? 8 : 0.5;
    return static_cast<float>(size * std::sin(phase));
  });
}

std::map<std::string, Tensor> inputs() {
  std::map<std::string, Tensor> result;
  for (const auto& [name, tokens] : {std::pair("x", 6), std::pair("c", 5)}) {
    Tensor x({DType::kF32, {1, tokens, 32}});
    int i = tokens - 6;
    for (float& v : x.values<float>()) v = static_cast<float>(std::cos(0.9 * i++));
    result.emplace(name, std::move(x));
  }
  return result;
}

CalibrationRecord calibrate(std::string_view text = kGraph) {
  Graph graph = graph::parse(text);
  CalibrationRecord record;
  Recorder recorder(record, insert_taps(graph), 1);
  const auto outputs = reference::evaluate(graph, inputs(), waves());
  recorder.observe([&](const std::string& name) { return outputs.at(name).clone(); }, 0);
  record.samples = 1;
  return record;
}

SchemeOptions options(const std::string& scheme, double level, const std::string& attention = "") {
  SchemeOptions result;
  result.scheme = scheme;
  result.level = level;
  result.attention = attention;
  return result;
}

struct Quantized {
  Applied applied;
  Graph graph;
  double sqnr = 0;

  [[nodiscard]] const Node& node(std::string_view name) const {
    for (const Node& node : graph.nodes()) {
      if (node.name == name) return node;
    }
    throw Error(Errc::kInternal, std::string(name));
  }
  [[nodiscard]] bool has(std::string_view name) const {
    for (const Node& node : graph.nodes()) {
      if (node.name == name) return true;
    }
    return false;
  }
  [[nodiscard]] const LayerReport* layer(std::string_view name) const {
    for (const LayerReport& report : applied.layers) {
      if (report.name == name) return &report;
    }
    return nullptr;
  }
};

Quantized quantize(const Recipe& recipe, std::string_view text = kGraph) {
  const CalibrationRecord record = calibrate(text);
  Quantized result{{}, graph::parse(text)};
  const auto wanted = reference::evaluate(result.graph, inputs(), waves());
  result.applied = apply(result.graph, recipe, &record, waves());
  const auto got = reference::evaluate(result.graph, inputs(), waves());
  double signal = 0, noise = 0;
  for (size_t i = 0; i < wanted.at("y").values<float>().size(); ++i) {
    const auto a = static_cast<double>(wanted.at("y").values<float>()[i]);
    signal += a * a;
    noise += std::pow(a - static_cast<double>(got.at("y").values<float>()[i]), 2);
  }
  result.sqnr = 10 * std::log10(signal / noise);
  return result;
}

Quantized quantize(const SchemeOptions& options, std::string_view text = kGraph) {
  return quantize(make_recipe(options), text);
}

TEST(QuantizedAttention, Level4OfFp8HasStaticCodes) {
  const Quantized run = quantize(options("fp8", 4));
  const LayerReport* layer = run.layer("attn1.attention");
  ASSERT_NE(layer, nullptr);
  ASSERT_TRUE(layer->attention);
  EXPECT_EQ(layer->why, "level 4");
  EXPECT_FALSE(layer->attention->qk.dynamic);
  EXPECT_EQ(std::get<graph::Attention>(run.node("attn1.attention").attrs).probabilities,
            DType::kF8E4M3);
  EXPECT_TRUE(run.has("attn1.attention.q_quantizer"));
  EXPECT_FALSE(run.has("attn1.attention.k.centered"));
  EXPECT_GT(run.sqnr, 15) << print(run.graph);
  // Heads of 8 channels fit no kernel.
  EXPECT_FALSE(run.layer("attn2.attention")->attention);
  EXPECT_NE(run.layer("attn2.attention")->why.find("heads of 8"), std::string::npos);
  EXPECT_EQ(quantize(options("fp8", 3)).layer("attn1.attention"), nullptr);
  EXPECT_EQ(quantize(options("fp8", 4, "none")).layer("attn1.attention"), nullptr);
  EXPECT_EQ(quantize(options("int8", 4)).layer("attn1.attention"), nullptr) << "FP8 only";
}

std::vector<float> scale_of(const Quantized& run, std::string_view quantizer) {
  const graph::ValueId scale = operand_of(run.node(quantizer), graph::Role::kXScale);
  const auto values = run.graph.value(scale).constant->literal->values<float>();
  return {values.begin(), values.end()};
}

TEST(QuantizedAttention, OneScaleForAnImageWithItself) {
  const CalibrationRecord record = calibrate();
  const Quantized run = quantize(options("fp8", 4));
  const LayerReport& layer = *run.layer("attn1.attention");
  const graph::ValueId scale =
      operand_of(run.node("attn1.attention.q_quantizer"), graph::Role::kXScale);
  float largest = 0;
  for (const char* role : {"q", "k", "v"}) {
    const std::string name = std::string("attn1.attention.") + role;
    EXPECT_EQ(operand_of(run.node(name + "_quantizer"), graph::Role::kXScale), scale) << name;
    EXPECT_EQ(operand_of(run.node(name), graph::Role::kXScale), scale) << name;
    const ValueStats& stats = *record.find(std::string("attn1.attention/") + role);
    largest = std::max(largest, *std::ranges::max_element(stats.column_amax));
  }
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(layer.operand_amax[i], largest);
    EXPECT_EQ(layer.operand_scale[i], scale_of(run, "attn1.attention.q_quantizer")[0]);
  }
  EXPECT_NEAR(layer.operand_scale[0], largest / 448, 1e-6F * largest);
}

// Keys of a text have scales of their own, and so do values beside dynamic keys.
TEST(QuantizedAttention, ScalesOfTheirOwnForATextAndForInt8) {
  Quantized text = quantize(options("fp8", 4), text_graph());
  const auto scale = [&](const char* role) {
    return operand_of(text.node(std::string("attn1.attention.") + role + "_quantizer"),
                      graph::Role::kXScale);
  };
  EXPECT_NE(scale("q"), scale("k"));
  EXPECT_NE(scale("k"), scale("v"));
  const LayerReport& layer = *text.layer("attn1.attention");
  EXPECT_NE(layer.operand_amax[0], layer.operand_amax[1]);
  EXPECT_EQ(layer.operand_scale[1], scale_of(text, "attn1.attention.k_quantizer")[0]);
  const LayerReport mixed = *quantize(options("int8", 3, "int8-fp8")).layer("attn1.attention");
  EXPECT_EQ(mixed.operand_amax[0], 0);
  EXPECT_GT(mixed.operand_amax[2], 0);
}

TEST(QuantizedAttention, Int8KeysAreCenteredAndScaledByHead) {
  const Quantized run = quantize(options("int8", 3, "int8-fp8"));
  EXPECT_TRUE(run.has("attn1.attention.k.centered"));
  EXPECT_FALSE(run.has("attn1.attention.q.centered"));
  const auto& op = std::get<graph::Quantize>(run.node("attn1.attention.q_quantizer").attrs);
  EXPECT_EQ(op.dtype, DType::kI8);
  EXPECT_EQ(op.granularity, graph::Granularity::kPerToken);
  EXPECT_EQ(run.graph.type(run.node("attn1.attention.q_quantizer").outputs[1]).shape, Shape{12});
  EXPECT_GT(run.sqnr, 20);
}

TEST(QuantizedAttention, DynamicSchemesNeedNoRecord) {
  for (const char* scheme : {"fp8_e4m3_e4m3_dynamic", "fp8_e4m3_e4m3_dynamic_per_tensor",
                             "int8_dynamic", "int8_weightonly"}) {
    const Recipe recipe = make_recipe(options(scheme, 3, "fp8"));
    EXPECT_FALSE(recipe.needs_record()) << scheme;
    Graph graph = graph::parse(kGraph);
    const Applied applied = apply(graph, recipe, nullptr, waves());
    EXPECT_TRUE(applied.layers[3].attention) << scheme;
  }
}

// to_out's smoothing multiplies the rows of to_v, so v is not as large as the record says.
TEST(QuantizedAttention, ScaleOfValuesFollowsTheirSmoothing) {
  SchemeOptions smoothed = options("int8", 3, "fp8");
  smoothed.smooth = true;
  const Quantized run = quantize(smoothed);
  ASSERT_EQ(run.layer("attn1.to_out.0")->smoothing, "in attn1.to_v");
  Graph tapped = run.graph;
  for (const char* role : {"q", "k", "v"}) {
    const std::string quantizer = std::string("attn1.attention.") + role + "_quantizer";
    tapped.add_output(role, operand_of(run.node(quantizer), graph::Role::kX));
  }
  const auto outputs = reference::evaluate(tapped, inputs(), waves());
  float amax = 0;
  for (const char* role : {"q", "k", "v"}) {
    for (const float x : outputs.at(role).values<float>()) amax = std::max(amax, std::fabs(x));
  }
  const CalibrationRecord record = calibrate();
  const ValueStats& unsmoothed = *record.find("attn1.attention/v");
  EXPECT_GT(*std::ranges::max_element(unsmoothed.column_amax), 1.5F * amax);
  const float kept = scale_of(run, "attn1.attention.v_quantizer")[0] * 448.0F;
  EXPECT_NEAR(kept, amax, 0.05F * amax);
}

// Short sequences stay in 16 bits where a recipe says so; how many tokens there are is the graph's.
TEST(QuantizedAttention, OnlyLongOnes) {
  const Quantized few = quantize(options("int8", 3, "fp8-long"));
  EXPECT_FALSE(few.layer("attn1.attention")->attention);
  EXPECT_EQ(few.layer("attn1.attention")->why, "attention fp8-long: 6 tokens, wanted 2048");
  EXPECT_FALSE(few.has("attn1.attention.q_quantizer"));
  for (const auto& [wanted, taken] : {std::pair(6, true), std::pair(7, false)}) {
    Recipe recipe = make_recipe(options("int8", 3, "fp8-long"));
    for (Rule& rule : recipe.rules) {
      if (rule.spec.attention) rule.spec.attention->min_tokens = wanted;
    }
    EXPECT_EQ(quantize(recipe).has("attn1.attention.q_quantizer"), taken) << wanted;
  }
}

// Whether keys are a text's is seen in the graph: they are made once a prompt.
TEST(QuantizedAttention, OnlyAnImageWithItself) {
  for (const char* scheme : {"fp8", "fp8_static", "int8"}) {
    SCOPED_TRACE(scheme);
    const Quantized self = quantize(options(scheme, 3, "fp8-self"));
    EXPECT_EQ(self.layer("attn1.attention")->why, "attention fp8-self");
    EXPECT_EQ(print(self.graph), print(quantize(options(scheme, 3, "fp8")).graph));
    const Quantized text = quantize(options(scheme, 3, "fp8-self"), text_graph());
    EXPECT_FALSE(text.layer("attn1.attention")->attention);
    EXPECT_EQ(text.layer("attn1.attention")->why,
              "attention fp8-self: its keys are made once a prompt");
    EXPECT_EQ(std::get<graph::Attention>(text.node("attn1.attention").attrs).probabilities,
              DType::kF32);
    EXPECT_FALSE(text.has("attn1.attention.q_quantizer"));
    EXPECT_TRUE(
        quantize(options(scheme, 3, "fp8"), text_graph()).has("attn1.attention.q_quantizer"));
  }
}

TEST(QuantizedAttention, TapsAreExtremesOfQAndKAndV) {
  Graph graph = graph::parse(kGraph);
  size_t found = 0;
  for (const Tap& tap : insert_taps(graph)) {
    if (tap.value.find("attention/") == std::string::npos) continue;
    ++found;
    EXPECT_FALSE(tap.histogram);
  }
  EXPECT_EQ(found, 3U) << "of attn1 alone";
  const CalibrationRecord record = calibrate();
  EXPECT_NE(record.find("attn1.attention/k"), nullptr);
}

TEST(QuantizedAttention, AnOldRecordLeavesItAlone) {
  CalibrationRecord record = calibrate();
  record.layers.erase("attn1.attention/k");
  Graph graph = graph::parse(kGraph);
  const Applied applied = apply(graph, make_recipe(options("fp8", 4)), &record, waves());
  EXPECT_FALSE(applied.layers[3].attention);
  EXPECT_NE(applied.layers[3].why.find("--restart"), std::string::npos) << applied.layers[3].why;
}

TEST(QuantizedAttention, RecipesKeepIt) {
  for (const auto& [attention, suffix] :
       {std::pair("fp8", ".attention_fp8"), std::pair("fp8-self", ".attention_fp8_self"),
        std::pair("fp8-long", ".attention_fp8_self2048"),
        std::pair("int8-fp8", ".attention_int8_fp8")}) {
    const Recipe recipe = make_recipe(options("int8", 3, attention));
    const Recipe again = parse_recipe(to_json(recipe), "r.json");
    EXPECT_EQ(again.hash(), recipe.hash());
    EXPECT_TRUE(again.has_attention());
    EXPECT_TRUE(readable_name(again, nullptr).ends_with(suffix)) << attention;
  }
  try {
    (void)make_recipe(options("int8", 3, "int4"));
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("int8-fp8"), std::string::npos);
  }
  SchemeOptions excluded = options("fp8", 4);
  excluded.exclude = {"attn1"};
  EXPECT_FALSE(quantize(excluded).layer("attn1.attention")->attention);
}

}  // namespace
}  // namespace halftone::quant
