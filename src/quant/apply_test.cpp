// Recipes on small graphs: what is inserted where, by hand, and how near the result stays.
#include "quant/apply.h"

#include <cmath>

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "quant/schemes/scheme.h"
#include "quant/smooth.h"
#include "reference/reference.h"
#include "tensor/computed_weights.h"
#include "tensor/quantized.h"

namespace halftone::quant {
namespace {

using graph::Graph;
using graph::Node;

// A transformer block's pieces: norm -> q, k, v -> attention -> out; norm -> GEGLU -> out.
constexpr std::string_view kBlock = R"(input %0 "x" f32[1,6,8] step
input %1 "text" f32[1,5,8] prompt
weight %2 "g" f32[8]
weight %3 "b" f32[8]
node "norm1" layer_norm{eps=1e-05} x=%0 gamma=%2 beta=%3 -> %4 f32[1,6,8] step
weight %5 "u/attn1.to_q.weight" f32[8,8]
node "attn1.to_q" linear{activation=none geglu=false} x=%4 weight=%5 -> %6 f32[1,6,8] step
weight %7 "u/attn1.to_k.weight" f32[8,8]
node "attn1.to_k" linear{activation=none geglu=false} x=%4 weight=%7 -> %8 f32[1,6,8] step
weight %9 "u/attn1.to_v.weight" f32[8,8]
node "attn1.to_v" linear{activation=none geglu=false} x=%4 weight=%9 -> %10 f32[1,6,8] step
node "attn1.attention" attention{heads=2 scale=0.5 causal=false} q=%6 k=%8 v=%10 -> %11 f32[1,6,8] step
weight %12 "u/attn1.to_out.0.weight" f32[8,8]
weight %13 "u/attn1.to_out.0.bias" f32[8]
node "attn1.to_out.0" linear{activation=none geglu=false} x=%11 weight=%12 bias=%13 -> %14 f32[1,6,8] step
weight %15 "u/ff.net.0.proj.weight" f32[32,8]
weight %26 "u/ff.net.0.proj.bias" f32[32]
node "ff.net.0.proj" linear{activation=none geglu=false} x=%14 weight=%15 bias=%26 -> %16 f32[1,6,32] step
node "ff.geglu" geglu{} x=%16 -> %17 f32[1,6,16] step
weight %18 "u/ff.net.2.weight" f32[8,16]
node "ff.net.2" linear{activation=none geglu=false} x=%17 weight=%18 -> %19 f32[1,6,8] step
weight %20 "u/attn2.to_k.weight" f32[8,8]
node "attn2.to_k" linear{activation=none geglu=false} x=%1 weight=%20 -> %21 f32[1,5,8] prompt
node "conv.in" reshape{shape=1,2,3,8} x=%19 -> %22 f32[1,2,3,8] step
weight %23 "u/conv1.weight" f32[4,8,3,3]
node "conv1.weight" transpose{perm=0,2,3,1} x=%23 -> %24 f32[4,3,3,8] load
node "conv1" conv2d{stride=1 pad_begin=1 pad_end=1 activation=none} x=%22 weight=%24 -> %25 f32[1,2,3,4] step
output "y" %25
output "k" %21
)";

// Repeatable values in [-1, 1] by name; column 3 of x's norm is a hundredfold outlier.
ComputedWeights waves() {
  return ComputedWeights([](const std::string& name, size_t i) {
    if (name == "g") return i == 3 ? 100.0F : 1.0F;
    return static_cast<float>(
        std::sin(1.3 * static_cast<double>(i * i % 977) + static_cast<double>(name.size())));
  });
}

std::map<std::string, Tensor> inputs() {
  std::map<std::string, Tensor> result;
  for (const auto& [name, rows] : {std::pair{"x", 6}, std::pair{"text", 5}}) {
    Tensor t({DType::kF32, {1, rows, 8}});
    int i = 0;
    for (float& v : t.values<float>()) v = static_cast<float>(std::cos(0.9 * i++));
    result.emplace(name, std::move(t));
  }
  return result;
}

CalibrationRecord calibrate() {
  Graph graph = graph::parse(kBlock);
  const auto taps = insert_taps(graph);
  CalibrationRecord record;
  Recorder recorder(record, taps, 1);
  const auto outputs = reference::evaluate(graph, inputs(), waves());
  recorder.observe([&](const std::string& name) { return outputs.at(name).clone(); }, 0);
  record.samples = 1;
  return record;
}

struct Quantized {
  Applied applied;
  Graph graph;
  double sqnr;  // of output y against the plain graph
};

Quantized quantize(const SchemeOptions& options) {
  const CalibrationRecord record = calibrate();
  Graph graph = graph::parse(kBlock);
  const auto wanted = reference::evaluate(graph, inputs(), waves());
  Applied applied = apply(graph, make_recipe(options), &record, waves());
  const auto got = reference::evaluate(graph, inputs(), waves());
  double signal = 0;
  double noise = 0;
  const auto a = wanted.at("y").values<float>();
  const auto b = got.at("y").values<float>();
  for (size_t i = 0; i < a.size(); ++i) {
    signal += static_cast<double>(a[i]) * static_cast<double>(a[i]);
    noise += std::pow(static_cast<double>(a[i] - b[i]), 2);
  }
  return {std::move(applied), std::move(graph), 10 * std::log10(signal / std::max(noise, 1e-30))};
}

SchemeOptions int8(double level) {
  SchemeOptions options;
  options.level = level;
  options.smooth = true;
  return options;
}

const LayerReport& layer(const Applied& applied, const std::string& name) {
  for (const LayerReport& report : applied.layers) {
    if (report.name == name) return report;
  }
  throw Error(Errc::kInternal, name);
}

size_t count(const Graph& graph, std::string_view op) {
  size_t n = 0;
  for (const Node& node : graph.nodes()) n += name_of(node.attrs) == op ? 1U : 0U;
  return n;
}

TEST(SmoothingFactors, ByHand) {
  // alpha 0.5: sqrt(w) / sqrt(a).
  const auto s = smoothing_factors({4, 0.25F, 0x1p-32F, 1e30F}, {1, 4, 1, 1e-20F}, 0.5);
  EXPECT_EQ(s, (std::vector<float>{0.5F, 4.0F, 1.0F, 1e-4F}));
}

TEST(NoiseGain, ByHand) {
  // Columns of weights with squares 4 and 1; the first is divided by 2.
  EXPECT_DOUBLE_EQ(noise_gain({2, 1}, {4, 1}), 0.4);
  EXPECT_EQ(noise_gain({}, {4, 1}), 1.0) << "not smoothed";
  EXPECT_EQ(noise_gain({2, 1}, {0, 0}), 1.0);
}

TEST(Apply, Level3SmoothsWhereItCostsNothing) {
  const Quantized run = quantize(int8(3));
  EXPECT_EQ(layer(run.applied, "attn1.to_q").smoothing, "in norm1");
  EXPECT_EQ(layer(run.applied, "attn1.to_v").smoothing, "in norm1");
  EXPECT_EQ(layer(run.applied, "attn1.to_out.0").smoothing, "in attn1.to_v");
  EXPECT_EQ(layer(run.applied, "ff.net.2").smoothing, "in ff.net.0.proj");
  EXPECT_EQ(layer(run.applied, "ff.net.0.proj").smoothing, "in the quantizer");
  EXPECT_FALSE(layer(run.applied, "attn2.to_k").activation);  // once a prompt: weights only
  EXPECT_TRUE(layer(run.applied, "attn2.to_k").weight);
  EXPECT_EQ(count(run.graph, "quantize"), 5U + 8U) << "q, k and v share one quantized input";
  EXPECT_GT(run.sqnr, 25) << print(run.graph);
}

TEST(Apply, LevelsChooseLayers) {
  EXPECT_FALSE(layer(quantize(int8(1)).applied, "ff.net.2").weight);
  EXPECT_TRUE(layer(quantize(int8(1)).applied, "conv1").weight);
  EXPECT_TRUE(layer(quantize(int8(2)).applied, "ff.net.2").weight);
  EXPECT_FALSE(layer(quantize(int8(2)).applied, "attn1.to_q").weight);
  EXPECT_TRUE(layer(quantize(int8(2.5)).applied, "attn1.to_q").weight);
  EXPECT_FALSE(layer(quantize(int8(2.5)).applied, "attn1.to_out.0").weight);
}

TEST(Apply, LaterRulesExcludeAndInclude) {
  SchemeOptions options = int8(3);
  options.exclude = {"attn1"};
  options.include = {"to_k"};
  const Quantized run = quantize(options);
  EXPECT_FALSE(layer(run.applied, "attn1.to_q").weight);
  EXPECT_EQ(layer(run.applied, "attn1.to_q").why, "excluded: attn1");
  EXPECT_TRUE(layer(run.applied, "attn1.to_k").weight);
  EXPECT_EQ(layer(run.applied, "attn1.to_k").smoothing, "in the quantizer")
      << "the norm also feeds q and v";
}

TEST(Apply, SmoothingSavesStaticScalesFromOutliers) {
  SchemeOptions plain = int8(2.5);
  plain.per_token = false;
  plain.exclude = {"ff", "conv"};
  SchemeOptions smooth = plain;
  plain.smooth = false;
  EXPECT_GT(quantize(smooth).sqnr, quantize(plain).sqnr + 6);
}

// Factors that are powers of two change no code at all: what is folded into a producer's rows and
// bias is taken out of the columns again.
TEST(Apply, SmoothingByPowersOfTwoIsExact) {
  const auto run = [](std::optional<double> alpha) {
    CalibrationRecord record = calibrate();
    for (auto& [name, stats] : record.values) stats.column_amax.assign(stats.column_amax.size(), 4);
    Recipe recipe;
    recipe.scheme = "test";
    Rule rule{"to_out|net.2", LayerKind::kLinear, {}, ""};
    rule.spec.weight = channel_weights(DType::kI8);
    rule.spec.activation = QuantSpec{.granularity = graph::Granularity::kPerToken, .dynamic = true};
    rule.spec.smooth = alpha.has_value();
    rule.spec.alpha = alpha.value_or(0);
    recipe.rules.push_back(rule);
    Graph graph = graph::parse(kBlock);
    (void)apply(graph, recipe, &record, waves());
    return reference::evaluate(graph, inputs(), waves());
  };
  const auto plain = run({});
  const auto smooth = run(1.0);
  const auto a = plain.at("y").values<float>();
  const auto b = smooth.at("y").values<float>();
  for (size_t i = 0; i < a.size(); ++i) EXPECT_EQ(a[i], b[i]) << i;
}

TEST(Apply, Int8SmoothsStaticScalesAndWhereAnAlphaIsGiven) {
  const auto smooths = [](const SchemeOptions& options) {
    return RuleMatcher(make_recipe(options)).choose("ff.net.2", LayerKind::kLinear).spec.smooth;
  };
  SchemeOptions options;
  EXPECT_FALSE(smooths(options));
  options.alpha = 0.5;
  EXPECT_TRUE(smooths(options));
  options.smooth = false;
  EXPECT_FALSE(smooths(options));
  options = {};
  options.per_token = false;
  EXPECT_TRUE(smooths(options));
  options = {};
  options.compat = Collect::Compat::kTrt10;
  EXPECT_TRUE(smooths(options)) << "as that program does";
}

// What GEGLU and attention write as codes: one static scale, the rest stays per token.
TEST(Apply, ProducersGetStaticScalesAsFarAsTheLevelGoes) {
  using graph::Granularity;
  const std::string block = "mid_block.attentions.0.transformer_blocks.0.";
  const auto is_static = [&](const SchemeOptions& options, const std::string& layer) {
    const auto spec =
        RuleMatcher(make_recipe(options)).choose(block + layer, LayerKind::kLinear).spec;
    return spec.activation && spec.activation->granularity == Granularity::kPerTensor &&
           !spec.activation->dynamic;
  };
  SchemeOptions options;
  options.static_producers = "all";
  EXPECT_TRUE(is_static(options, "ff.net.2"));
  EXPECT_TRUE(is_static(options, "attn2.to_out.0"));
  EXPECT_FALSE(is_static(options, "ff.net.0.proj"));
  EXPECT_FALSE(is_static(options, "attn1.to_q"));
  options.level = 2.5;
  EXPECT_TRUE(is_static(options, "ff.net.2"));
  EXPECT_FALSE(is_static(options, "attn2.to_out.0")) << "kept at this level";
  options = {};
  EXPECT_FALSE(is_static(options, "ff.net.2"));
  EXPECT_FALSE(is_static(options, "attn1.to_out.0"));
  options.static_producers = "attention";
  EXPECT_FALSE(is_static(options, "ff.net.2"));
  EXPECT_TRUE(is_static(options, "attn1.to_out.0"));
  options.exclude = {"attn1"};
  EXPECT_FALSE(is_static(options, "attn1.to_out.0"));
  options = {};
  options.scheme = "fp8";
  EXPECT_TRUE(is_static(options, "ff.net.2"));
  EXPECT_TRUE(is_static(options, "attn1.to_out.0"));
  options.static_producers = "none";
  EXPECT_FALSE(is_static(options, "ff.net.2"));
  options.static_producers = "some";
  EXPECT_THROW((void)make_recipe(options), Error);
}

TEST(Apply, WhatTheRecordMustPredictIsAnOptionOfInt8) {
  const std::string block = "mid_block.attentions.0.transformer_blocks.0.";
  const auto least = [&](const SchemeOptions& options, const std::string& name) {
    const auto spec =
        RuleMatcher(make_recipe(options)).choose(block + name, LayerKind::kLinear).spec;
    EXPECT_FALSE(spec.activation->dynamic) << name;
    return spec.min_sqnr;
  };
  SchemeOptions options;
  for (const std::string which : {"ff", "attention", "all", "auto"}) {
    options = {};
    options.static_producers = which;
    const std::string name = which == "attention" ? "attn2.to_out.0" : "ff.net.2";
    EXPECT_EQ(least(options, name), which == "auto" ? std::optional(kStaticMinSqnr) : std::nullopt);
    options.static_min_sqnr = 12.5;
    EXPECT_EQ(least(options, name), 12.5);
  }
  EXPECT_EQ(least(options, "attn1.to_out.0"), 12.5);
  for (const double wrong : {-1.0, 100.5, std::nan("")}) {
    options.static_min_sqnr = wrong;
    EXPECT_THROW((void)make_recipe(options), Error) << wrong;
  }
  options.static_min_sqnr = 100;
  options.scheme = "fp8";
  EXPECT_EQ(least(options, "ff.net.2"), std::nullopt) << "E4M3 rounds relatively";
  EXPECT_EQ(least(options, "attn1.to_out.0"), std::nullopt);
}

// All linears per token, then a rule for `pattern`.
Recipe beside_per_token(const std::string& pattern, const LayerSpec& spec) {
  Recipe recipe;
  recipe.scheme = "test";
  LayerSpec per_token;
  per_token.weight = channel_weights(DType::kI8);
  per_token.activation = QuantSpec{.granularity = graph::Granularity::kPerToken, .dynamic = true};
  recipe.rules = {{".", LayerKind::kLinear, per_token, "per token"},
                  {pattern, LayerKind::kLinear, spec, "static"}};
  return parse_recipe(to_json(recipe), "r.json");
}

LayerSpec static_input(bool smooth, std::optional<double> min_sqnr) {
  LayerSpec spec;
  spec.weight = channel_weights(DType::kI8);
  spec.activation = QuantSpec{};
  spec.smooth = smooth;
  spec.min_sqnr = min_sqnr;
  return spec;
}

// The record decides, layer by layer, and a layer that falls back is what it would have been.
TEST(Apply, TheRecordDecidesWhichInputsAreStatic) {
  const CalibrationRecord record = calibrate();
  const auto applied = [&](const Recipe& recipe, std::string* text = nullptr) {
    Graph graph = graph::parse(kBlock);
    Applied result = apply(graph, recipe, &record, waves());
    if (text != nullptr) *text = print(graph);
    return result;
  };
  const auto is_static = [](const Applied& result, const std::string& name) {
    const LayerReport& report = layer(result, name);
    EXPECT_EQ(report.activation->dynamic,
              report.activation->granularity == graph::Granularity::kPerToken);
    EXPECT_EQ(report.activation->dynamic, report.input_scale == 0);
    return !report.activation->dynamic;
  };
  const std::string both = "net.2$|to_out.0$";
  for (const bool smooth : {false, true}) {
    const auto recipe = [&](std::optional<double> least) {
      return beside_per_token(both, static_input(smooth, least));
    };
    std::string everything, zero, none, hundred;
    applied(recipe({}), &everything);
    applied(recipe(0), &zero);
    EXPECT_EQ(zero, everything) << "all static";
    applied(beside_per_token("nothing", static_input(false, {})), &none);
    const Applied last = applied(recipe(100), &hundred);
    EXPECT_EQ(hundred, none) << "all per token, nothing smoothed";
    EXPECT_EQ(layer(last, "ff.net.2").smoothing, "");
    EXPECT_NE(layer(last, "ff.net.2").why.find("100 wanted: per token"), std::string::npos);
    // Each layer changes once on the way, not both at the same place.
    std::map<std::string, double> first_dynamic;
    for (double least = 0; least <= 100; least += 0.25) {
      const Applied result = applied(recipe(least));
      for (const char* name : {"ff.net.2", "attn1.to_out.0"}) {
        if (!is_static(result, name)) {
          first_dynamic.try_emplace(name, least);
        } else {
          EXPECT_FALSE(first_dynamic.contains(name)) << name << " at " << least;
        }
      }
    }
    EXPECT_GT(std::fabs(first_dynamic.at("ff.net.2") - first_dynamic.at("attn1.to_out.0")), 0.5);
    EXPECT_GT(std::min(first_dynamic.at("ff.net.2"), first_dynamic.at("attn1.to_out.0")), 5);
  }
  // The threshold itself is enough.
  const ValueStats& stats = *record.find("ff.net.2");
  const double scale = static_cast<double>(scale_for(stats.max[0], 127.0F));
  const double predicted = predicted_sqnr(stats, scale, 1);
  const auto at = [&](double least) {
    return is_static(applied(beside_per_token(both, static_input(false, least))), "ff.net.2");
  };
  EXPECT_TRUE(at(predicted));
  EXPECT_FALSE(at(std::nextafter(predicted, 100.0)));
}

// q falls back and shares the codes of k and v again.
TEST(Apply, ALayerThatFallsBackJoinsTheOthers) {
  const CalibrationRecord record = calibrate();
  const auto text = [&](const std::string& pattern, double least) {
    Graph graph = graph::parse(kBlock);
    apply(graph, beside_per_token(pattern, static_input(true, least)), &record, waves());
    return graph;
  };
  EXPECT_EQ(count(text("to_q$", 100), "quantize"), count(text("nothing", 0), "quantize"));
  EXPECT_EQ(count(text("to_q$", 0), "quantize"), count(text("nothing", 0), "quantize") + 1);
}

TEST(Apply, AMarginWidensAStaticScale) {
  const CalibrationRecord record = calibrate();
  for (const bool smooth : {false, true}) {
    const auto amax = [&](double margin) {
      Recipe recipe;
      recipe.scheme = "test";
      Rule rule{"net.2", LayerKind::kLinear, {}, ""};
      rule.spec.weight = channel_weights(DType::kI8);
      rule.spec.activation = QuantSpec{};
      rule.spec.smooth = smooth;
      rule.spec.alpha = 1;
      rule.spec.margin = margin;
      recipe.rules.push_back(rule);
      recipe = parse_recipe(to_json(recipe), "r.json");
      EXPECT_EQ(recipe.rules[0].spec.margin, margin);
      Graph graph = graph::parse(kBlock);
      return layer(apply(graph, recipe, &record, waves()), "ff.net.2").input_amax;
    };
    EXPECT_EQ(amax(1.5), 1.5F * amax(1));
    if (!smooth) {
      EXPECT_EQ(amax(1), record.find("ff.net.2")->max[0]);
    }
  }
}

TEST(Apply, StaticScalesComeFromTheRecord) {
  SchemeOptions options = int8(1);
  options.method = Collect::Method::kMax;
  const Quantized run = quantize(options);
  const CalibrationRecord record = calibrate();
  const LayerReport& conv = layer(run.applied, "conv1");
  EXPECT_EQ(conv.input_amax, record.find("conv1")->max[0]);
  EXPECT_EQ(conv.input_scale, conv.input_amax / 127.0F);
}

TEST(Apply, EverySchemeStaysNear) {
  for (const Scheme* scheme : schemes()) {
    SchemeOptions options;
    options.scheme = scheme->name;
    options.policy = "none";
    const double least = scheme->name == "int4_weightonly" ? 8 : 18;
    EXPECT_GT(quantize(options).sqnr, least) << scheme->name;
  }
}

TEST(Apply, AMissingRecordOrLayerIsSaid) {
  Graph graph = graph::parse(kBlock);
  EXPECT_THROW((void)apply(graph, make_recipe(int8(3)), nullptr, waves()), Error);
  CalibrationRecord record = calibrate();
  record.layers.erase("conv1");
  const Applied applied = apply(graph, make_recipe(int8(3)), &record, waves());
  EXPECT_EQ(layer(applied, "conv1").why, "not in the calibration record");
  EXPECT_FALSE(layer(applied, "conv1").weight);
}

// Token 0 a hundred times as large as the others: their scale is their own, and it stays exact.
TEST(Apply, TheFirstTokenOfATextMayStay) {
  auto given = inputs();
  for (int64_t i = 0; i < 8; ++i) given.at("text").values<float>()[static_cast<size_t>(i)] *= 100;
  Graph plain = graph::parse(kBlock);
  const auto wanted = reference::evaluate(plain, given, waves());
  CalibrationRecord record;
  {
    Graph tapped = graph::parse(kBlock);
    Recorder recorder(record, insert_taps(tapped), 1);
    const auto outputs = reference::evaluate(tapped, given, waves());
    recorder.observe([&](const std::string& name) { return outputs.at(name).clone(); }, 0);
  }
  const auto largest = [&](size_t begin, size_t end) {
    float amax = 0;
    const auto text = given.at("text").values<float>();
    for (size_t i = begin; i < end; ++i) amax = std::max(amax, std::fabs(text[i]));
    return amax;
  };
  Recipe recipe;
  recipe.scheme = "mixdq";
  recipe.collect.method = Collect::Method::kMax;
  LayerSpec spec;
  spec.weight = channel_weights(DType::kI8);
  spec.activation = QuantSpec{};
  recipe.rules.push_back({"^attn2.to_k$", LayerKind::kLinear, spec, ""});

  // Weights only where it is not asked for.
  Graph whole = graph::parse(kBlock);
  EXPECT_FALSE(layer(apply(whole, recipe, &record, waves()), "attn2.to_k").activation);

  recipe.bos_aware = true;
  Graph graph = graph::parse(kBlock);
  const Applied applied = apply(graph, recipe, &record, waves());
  const LayerReport& report = layer(applied, "attn2.to_k");
  ASSERT_TRUE(report.activation);
  EXPECT_TRUE(applied.unused.empty());
  EXPECT_EQ(report.input_amax, largest(8, 40));
  EXPECT_GT(largest(0, 8), 50 * report.input_amax);
  EXPECT_EQ(report.input_scale, report.input_amax / 127.0F);
  const auto got = reference::evaluate(graph, given, waves());
  const auto with_weights = reference::evaluate(whole, given, waves());
  const auto k = got.at("k").values<float>();
  const auto exact = with_weights.at("k").values<float>();
  for (size_t i = 0; i < 8; ++i)
    EXPECT_EQ(k[i], exact[i]) << "the first token's input is as it was";
  double worst = 0;
  for (size_t i = 8; i < k.size(); ++i) {
    worst = std::max(worst, std::fabs(static_cast<double>(k[i] - exact[i])));
  }
  // Half a step of each of 8 inputs, weights of at most 1.
  EXPECT_GT(worst, 0);
  EXPECT_LE(worst, 8 * 0.5 * static_cast<double>(report.input_scale) * 1.01);

  record.values.erase(without_first("attn2.to_k"));
  Graph old = graph::parse(kBlock);
  const Applied fallen = apply(old, recipe, &record, waves());
  EXPECT_FALSE(layer(fallen, "attn2.to_k").activation);
  EXPECT_TRUE(layer(fallen, "attn2.to_k").weight);
  ASSERT_EQ(fallen.unused.size(), 1U);
  EXPECT_NE(fallen.unused[0].find("bos_aware"), std::string::npos);

  Recipe without_text = recipe;
  without_text.rules.push_back({"attn2", LayerKind::kAny, {}, "excluded"});
  const auto unused = [&] {
    Graph block = graph::parse(kBlock);
    return apply(block, without_text, &record, waves()).unused.size();
  };
  EXPECT_EQ(unused(), 0U) << "a default, and no text is quantized";
  without_text.asks_bos_aware = true;
  EXPECT_EQ(unused(), 1U);
  EXPECT_TRUE(parse_recipe(to_json(recipe), "r.json").bos_aware);
}

TEST(Apply, ZeroPointsOfAsymmetricInputs) {
  Recipe recipe;
  recipe.scheme = "mixdq";
  LayerSpec spec;
  spec.weight = channel_weights(DType::kI8);
  spec.activation = QuantSpec{.symmetric = false};
  spec.input_low = -1.0F;
  spec.input_high = 3.0F;
  recipe.rules.push_back({"^conv1$", LayerKind::kConv, spec, ""});
  Graph graph = graph::parse(kBlock);
  const Applied applied = apply(graph, recipe, nullptr, waves());
  EXPECT_EQ(layer(applied, "conv1").input_scale, 4.0F / 255.0F);
  EXPECT_NE(print(graph).find("x_zero="), std::string::npos);
}

TEST(MakeRecipe, RefusesUnknownNamesWithTheList) {
  const auto message = [](const SchemeOptions& options) -> std::string {
    try {
      (void)make_recipe(options);
    } catch (const Error& error) {
      return error.what();
    }
    return {};
  };
  SchemeOptions options;
  options.scheme = "int7";
  EXPECT_NE(message(options).find("int8_dynamic"), std::string::npos);
  options = {};
  options.policy = "best";
  EXPECT_NE(message(options).find("thestage"), std::string::npos);
  options = {};
  options.level = 2.7;
  EXPECT_NE(message(options).find("2.5"), std::string::npos);
  options = {};
  options.exclude = {"("};
  EXPECT_NE(message(options).find("pattern"), std::string::npos);
}

}  // namespace
}  // namespace halftone::quant
