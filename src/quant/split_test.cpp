// Shortcuts in two halves: by hand, against the whole, and what stays whole.
#include "quant/split.h"

#include <cmath>
#include <map>
#include <random>

#include <gtest/gtest.h>

#include "quant/apply.h"
#include "quant/schemes/scheme.h"
#include "quant/taps.h"
#include "reference/reference.h"
#include "tensor/computed_weights.h"

namespace halftone::quant {
namespace {

using graph::Graph;

constexpr const char* kName = "up.conv_shortcut";
constexpr const char* kSecondName = "up.conv_shortcut_0";

// One pixel: two channels from below, one of the skip connection.
constexpr std::string_view kPixel = R"(input %0 "a" f32[1,1,1,2] step
input %1 "b" f32[1,1,1,1] step
node "cat" concat{axis=-1} x=%0 x=%1 -> %2 f32[1,1,1,3] step
weight %3 "w" f32[1,1,1,3]
weight %4 "bias" f32[1]
node "up.conv_shortcut" conv2d{stride=1 pad_begin=0 pad_end=0 activation=none} x=%2 weight=%3 bias=%4 -> %5 f32[1,1,1,1] step
output "y" %5
)";

// Five and three channels to four, another layer behind.
constexpr std::string_view kBlock = R"(input %0 "a" f32[2,3,3,5] step
input %1 "b" f32[2,3,3,3] step
node "cat" concat{axis=3} x=%0 x=%1 -> %2 f32[2,3,3,8] step
weight %3 "up.conv_shortcut.weight" f32[4,8,1,1]
node "transposed" transpose{perm=0,2,3,1} x=%3 -> %4 f32[4,1,1,8] load
weight %5 "up.conv_shortcut.bias" f32[4]
node "up.conv_shortcut" conv2d{stride=1 pad_begin=0 pad_end=0 activation=none} x=%2 weight=%4 bias=%5 -> %6 f32[2,3,3,4] step
weight %7 "conv2.weight" f32[2,1,1,4]
node "conv2" conv2d{stride=1 pad_begin=0 pad_end=0 activation=none} x=%6 weight=%7 -> %8 f32[2,3,3,2] step
output "y" %6
output "z" %8
)";

ComputedWeights waves() {
  return ComputedWeights([](const std::string& name, size_t i) {
    return static_cast<float>(std::sin(1.3 * static_cast<double>(i * i % 977 + name.size())));
  });
}

std::map<std::string, Tensor> inputs(const Graph& graph, float scale_of_b) {
  std::map<std::string, Tensor> result;
  std::mt19937_64 random(7);
  std::normal_distribution<float> normal;
  for (const graph::Value& value : graph.values()) {
    if (!value.is_input) continue;
    Tensor tensor(value.type);
    for (float& v : tensor.values<float>()) v = normal(random);
    if (value.name == "b") {
      for (float& v : tensor.values<float>()) v *= scale_of_b;
    }
    result.emplace(value.name, std::move(tensor));
  }
  return result;
}

std::vector<float> floats(const Tensor& tensor) {
  return {tensor.values<float>().begin(), tensor.values<float>().end()};
}

std::vector<float> evaluated(const Graph& graph) {
  return floats(reference::evaluate(graph, inputs(graph, 1), waves()).at("y"));
}

CalibrationRecord calibrate(std::string_view text, float scale_of_b = 1) {
  Graph graph = graph::parse(text);
  const auto taps = insert_taps(graph);
  CalibrationRecord record;
  Recorder recorder(record, taps, 1);
  const auto outputs = reference::evaluate(graph, inputs(graph, scale_of_b), waves());
  recorder.observe([&](const std::string& name) { return outputs.at(name).clone(); }, 0);
  record.samples = 1;
  return record;
}

Recipe int8(bool split, bool symmetric = true) {
  LayerSpec spec;
  spec.weight = channel_weights(DType::kI8);
  spec.activation = QuantSpec{.symmetric = symmetric};
  Recipe recipe;
  recipe.scheme = "test";
  recipe.collect.method = Collect::Method::kMax;
  recipe.split_shortcut = split;
  recipe.rules.push_back({".", LayerKind::kConv, spec, "all"});
  return recipe;
}

double sqnr(const std::vector<float>& wanted, const std::vector<float>& got) {
  double signal = 0, noise = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    signal += std::pow(static_cast<double>(wanted[i]), 2);
    noise += std::pow(static_cast<double>(wanted[i]) - static_cast<double>(got[i]), 2);
  }
  return 10 * std::log10(signal / noise);
}

const LayerReport* find(const Applied& applied, std::string_view name) {
  for (const LayerReport& report : applied.layers) {
    if (report.name == name) return &report;
  }
  return nullptr;
}

// a = (0.5, -1.27), |a| <= 1.27: scale 0.01, codes 50, -127; b = 100, |b| <= 127: scale 1, code
// 100. w = (1, 0.25 | 0.01), bias 0.5:
//   first half:  scale 1 / 127     codes 127, rne(31.75) = 32
//     0.01 * 1 / 127 * (50 * 127 - 127 * 32) = 0.01 / 127 * 2286 = 0.18
//   second half: scale 0.01 / 127  code 127
//     1 * 0.01 / 127 * (100 * 127) = 1
//   y = 0.18 + 0.5 + 1 = 1.68 (exact 1.6825)
// Whole: scale of x 1, codes rne(0.5) = 0, rne(-1.27) = -1, 100; of w 127, 32, rne(1.27) = 1:
//   y = (-32 + 100) / 127 + 0.5 = 1.035433
TEST(SplitShortcut, ByHand) {
  CalibrationRecord record;
  record.num_steps = 1;
  record.samples = 1;
  const auto add = [&](const std::string& name, int64_t channels, float amax) {
    ValueStats stats;
    stats.channels = channels;
    stats.sum = stats.max = stats.min = {amax};
    stats.calls = {1};
    stats.low = -amax;
    stats.high = amax;
    stats.column_amax.assign(static_cast<size_t>(channels), amax);
    record.values.emplace(name, std::move(stats));
    record.layers.emplace(name, name);
  };
  add(kName, 3, 127);
  add(first_input(kName), 2, 1.27F);
  add(kSecondName, 1, 127);
  const ComputedWeights weights([](const std::string& name, size_t i) {
    return name == "bias" ? 0.5F : std::array{1.0F, 0.25F, 0.01F}.at(i);
  });
  const auto y = [&](bool split) {
    Graph graph = graph::parse(kPixel);
    static_cast<void>(apply(graph, int8(split), &record, weights));
    std::map<std::string, Tensor> in;
    in.emplace("a", Tensor::from({1, 1, 1, 2}, std::array{0.5F, -1.27F}));
    in.emplace("b", Tensor::from({1, 1, 1, 1}, std::array{100.0F}));
    return floats(reference::evaluate(graph, in, weights).at("y")).at(0);
  };
  EXPECT_FLOAT_EQ(y(true), 1.68F);
  EXPECT_FLOAT_EQ(y(false), 1.035433F);
}

TEST(SplitShortcut, TheHalvesTogetherAreTheWhole) {
  Graph graph = graph::parse(kBlock);
  const std::vector<float> wanted = evaluated(graph);
  split_shortcuts(graph, int8(true), nullptr);
  EXPECT_NE(print(graph).find("\"up.conv_shortcut_0\" conv2d"), std::string::npos);
  EXPECT_EQ(print(graph::parse(print(graph))), print(graph));
  const std::vector<float> got = evaluated(graph);
  ASSERT_EQ(got.size(), wanted.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], wanted[i], 1e-5F) << i;
}

// One step for both parts rounds a quiet one away: here it is as much of the output as the loud
// one.
TEST(SplitShortcut, SavesTheQuietHalf) {
  constexpr float kLoud = 50;
  const ComputedWeights weights([](const std::string& name, size_t i) {
    const bool reads_b = name == "up.conv_shortcut.weight" && i % 8 >= 5;
    const auto value = static_cast<float>(std::sin(1.3 * static_cast<double>(i * i % 977)));
    return reads_b ? value / kLoud : value;
  });
  const auto output = [&](const Graph& graph) {
    return floats(reference::evaluate(graph, inputs(graph, kLoud), weights).at("y"));
  };
  const CalibrationRecord record = calibrate(kBlock, kLoud);
  for (const bool symmetric : {true, false}) {
    const auto quality = [&](bool split) {
      Graph graph = graph::parse(kBlock);
      static_cast<void>(apply(graph, int8(split, symmetric), &record, weights));
      return sqnr(output(graph::parse(kBlock)), output(graph));
    };
    EXPECT_GT(quality(true), 35) << symmetric;
    EXPECT_LT(quality(false), 20) << symmetric;
  }
}

TEST(SplitShortcut, HalvesAreLayersWithRangesOfTheirOwn) {
  const CalibrationRecord record = calibrate(kBlock, 50);
  ASSERT_NE(record.find(first_input(kName)), nullptr);
  ASSERT_NE(record.find(kSecondName), nullptr);
  Graph graph = graph::parse(kBlock);
  const Applied applied = apply(graph, int8(true), &record, waves());
  ASSERT_EQ(applied.layers.size(), 3U);
  EXPECT_TRUE(applied.unused.empty());
  EXPECT_EQ(applied.layers[0].name, kName);
  EXPECT_EQ(applied.layers[1].name, kSecondName);
  EXPECT_EQ(applied.layers[0].num_weights, 4 * 5);
  EXPECT_EQ(applied.layers[1].num_weights, 4 * 3);
  EXPECT_EQ(applied.layers[0].input_amax, record.find(first_input(kName))->max[0]);
  EXPECT_EQ(applied.layers[1].input_amax, record.find(kSecondName)->max[0]);
  EXPECT_EQ(record.find(kName)->max[0], applied.layers[1].input_amax) << "the louder half";
  EXPECT_GT(applied.layers[1].input_amax, 20 * applied.layers[0].input_amax);
}

TEST(SplitShortcut, ARuleForTheWholeIsForBothAndOneOfTheSecondForIt) {
  const CalibrationRecord record = calibrate(kBlock);
  Recipe recipe = int8(true);
  recipe.rules.front().pattern = "^up\\.conv_shortcut$";
  const auto applied = [&] {
    Graph graph = graph::parse(kBlock);
    return apply(graph, recipe, &record, waves());
  };
  EXPECT_TRUE(find(applied(), kName)->weight);
  EXPECT_TRUE(find(applied(), kSecondName)->weight);
  recipe.rules.push_back({"conv_shortcut_0", LayerKind::kAny, {}, "excluded"});
  EXPECT_TRUE(find(applied(), kName)->weight);
  EXPECT_FALSE(find(applied(), kSecondName)->weight);
  EXPECT_TRUE(applied().unused.empty());
  recipe.rules.back().pattern = "conv_shortcut";
  EXPECT_FALSE(find(applied(), kName)->weight);
  EXPECT_EQ(find(applied(), kSecondName), nullptr) << "nothing to split";
  EXPECT_TRUE(applied().unused.empty()) << "a default, and no shortcut is quantized";
  recipe.asks_split_shortcut = true;
  ASSERT_EQ(applied().unused.size(), 1U);
  EXPECT_NE(applied().unused[0].find("split_shortcut"), std::string::npos);
}

TEST(SplitShortcut, ARecordWithoutThePartsLeavesItWhole) {
  CalibrationRecord record = calibrate(kBlock);
  record.layers.erase(first_input(kName));
  Graph graph = graph::parse(kBlock), whole = graph::parse(kBlock);
  const Applied applied = apply(graph, int8(true), &record, waves());
  static_cast<void>(apply(whole, int8(false), &record, waves()));
  EXPECT_EQ(print(graph), print(whole));
  EXPECT_NE(find(applied, kName)->why.find("--restart"), std::string::npos);
  ASSERT_EQ(applied.unused.size(), 1U);
  EXPECT_NE(applied.unused[0].find("--restart"), std::string::npos);
  EXPECT_EQ(find(applied, "conv2")->why, "all");
}

// What is no 1x1 convolution over two values joined along the channels.
TEST(SplitShortcut, EverythingElseStaysWhole) {
  struct Case {
    std::string_view what, from, to;
  };
  const std::string_view cat = "node \"cat\" concat{axis=-1} x=%0 x=%1 -> %2 f32[1,1,1,3] step";
  for (const Case& c : std::vector<Case>{
           {"three parts", "f32[1,1,1,2] step\n", "f32[1,1,1,1] step\n"},
           {"one part", cat, "node \"cat\" concat{axis=-1} x=%0 -> %2 f32[1,1,1,2] step"},
           {"no concat", cat, "node \"cat\" silu{} x=%0 -> %2 f32[1,1,1,2] step"},
           {"rows joined", "axis=-1", "axis=1"},
           {"an activation", "activation=none", "activation=silu"},
           {"3x3", "pad_begin=0 pad_end=0", "pad_begin=1 pad_end=1"}}) {
    std::string text(kPixel);
    const auto change = [&](std::string_view from, std::string_view to) {
      const size_t at = text.find(from);
      ASSERT_NE(at, std::string::npos) << from;
      text.replace(at, from.size(), to);
    };
    change(c.from, c.to);
    if (c.what == "three parts") change("x=%0 x=%1", "x=%0 x=%1 x=%1");
    if (c.what == "one part" || c.what == "no concat") change("f32[1,1,1,3]\n", "f32[1,1,1,2]\n");
    if (c.what == "no concat") change("silu{}", "unary{activation=silu}");
    if (c.what == "3x3") change("\"w\" f32[1,1,1,3]", "\"w\" f32[1,3,3,3]");
    if (c.what == "rows joined") {
      change("input %1 \"b\" f32[1,1,1,1]", "input %1 \"b\" f32[1,1,1,2]");
      change("%2 f32[1,1,1,3]", "%2 f32[1,2,1,2]");
      change("\"w\" f32[1,1,1,3]", "\"w\" f32[1,1,1,2]");
      change("%5 f32[1,1,1,1]", "%5 f32[1,2,1,1]");
    }
    Graph graph = graph::parse(text);
    const std::string before = print(graph);
    split_shortcuts(graph, int8(true), nullptr);
    EXPECT_EQ(print(graph), before) << c.what;
    for (const Tap& tap : insert_taps(graph)) EXPECT_EQ(tap.value, kName) << c.what;
  }
}

TEST(SplitShortcut, IsAnOptionOfEveryScheme) {
  for (const char* scheme : {"int8", "fp8", "fp8_static"}) {
    SchemeOptions options;
    options.scheme = scheme;
    EXPECT_FALSE(make_recipe(options).split_shortcut);
    EXPECT_EQ(to_json(make_recipe(options)).find("split_shortcut"), std::string::npos);
    const std::string whole = make_recipe(options).hash();
    options.split_shortcut = true;
    const Recipe recipe = make_recipe(options);
    EXPECT_NE(recipe.hash(), whole) << "another plan";
    EXPECT_TRUE(parse_recipe(to_json(recipe), "r.json").split_shortcut);
    EXPECT_EQ(parse_recipe(to_json(recipe), "r.json").hash(), recipe.hash());
  }
}

TEST(SplitShortcut, Names) {
  EXPECT_EQ(second_half(kName), kSecondName);
  EXPECT_EQ(shortcut_of(kSecondName), kName);
  EXPECT_EQ(shortcut_of(kName), "");
}

}  // namespace
}  // namespace halftone::quant
