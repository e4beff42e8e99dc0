// The choice of a mix: costs, front and budgets against every choice there is.
#include "workflow/auto_search.h"

#include <gtest/gtest.h>

#include "halftone/error.h"

namespace halftone::workflow {
namespace {

LayerSensitivity layer(const std::string& name, int64_t weights, double int8, double w4) {
  LayerSensitivity result;
  result.name = name;
  result.num_weights = weights;
  result.num_outputs = 8;
  result.effects = {Effect{.noise = int8, .weight_bits = 8, .input_bits = 8},
                    Effect{.noise = w4, .weight_bits = 4}};
  return result;
}

quant::Recipe uniform(int64_t bits) {
  quant::LayerSpec spec;
  spec.weight = quant::QuantSpec{.bits = bits, .granularity = graph::Granularity::kPerChannel};
  quant::Recipe recipe;
  recipe.scheme = "x";
  recipe.rules = {{".", quant::LayerKind::kLinear, spec, "all"}};
  return recipe;
}

MixTable table() {
  MixTable result;
  result.formats = {"keep", "int8", "w4a16"};
  result.recipes = {{}, uniform(8), uniform(4)};
  result.layers = {layer("a.b", 4096, 1e-4, 2e-3), layer("c", 1024, 5e-4, 9e-4),
                   layer("d", 16384, 2e-5, 3e-2), layer("e", 2048, 4e-3, 8e-3)};
  result.options = {{0, 1, 2}, {0, 1, 2}, {0, 1, 2}, {0, 1, 2}};
  result.fixed_bytes = 1000;
  return result;
}

// Every choice.
std::vector<FrontPoint> all_points(const MixTable& table) {
  std::vector<FrontPoint> points;
  for (size_t code = 0; code < 81; ++code) {
    points.push_back(point_of(table, {code % 3, code / 3 % 3, code / 9 % 3, code / 27 % 3}));
  }
  return points;
}

TEST(AutoSearch, PointCountsBytesNoiseAndFormats) {
  const FrontPoint point = point_of(table(), {0, 1, 2, 0});
  EXPECT_EQ(point.bytes, 1000U + 4096 * 4 + (1024 + 8 * 4) + (16384 / 2 + 8 * 4) + 2048 * 4);
  EXPECT_DOUBLE_EQ(point.noise, 5e-4 + 3e-2);
  const std::vector<std::pair<std::string, int>> wanted = {{"keep", 2}, {"int8", 1}, {"w4a16", 1}};
  EXPECT_EQ(point.formats, wanted);
}

TEST(AutoSearch, SizeBudgetTakesTheLeastNoiseOfEveryChoice) {
  const MixTable mixes = table();
  const auto points = all_points(mixes);
  for (const uint64_t budget : {14'000U, 20'000U, 26'000U, 40'000U, 70'000U, 100'000U}) {
    double least = 1e9;
    for (const FrontPoint& point : points) {
      if (point.bytes <= budget) least = std::min(least, point.noise);
    }
    const FrontPoint got = point_of(mixes, within_bytes(mixes, budget));
    EXPECT_LE(got.bytes, budget);
    EXPECT_DOUBLE_EQ(got.noise, least) << budget;
  }
  EXPECT_THROW(static_cast<void>(within_bytes(mixes, 12'000)), Error);
  EXPECT_THROW(static_cast<void>(within_bytes(mixes, 10)), Error);
}

TEST(AutoSearch, SpeedBudgetTakesTheLeastNoiseOfEveryChoice) {
  MixTable mixes = table();
  mixes.step_ms = 10;
  // 4-bit weights are slower than 8 bits here, on one layer than float.
  mixes.saved_ms = {{0, 2, 1}, {0, 0.5, -0.25}, {0, 3, 2.5}, {0, 1, 0.125}};
  const auto points = all_points(mixes);
  for (const double budget : {3.5, 4.0, 5.0, 6.5, 8.0, 10.0}) {
    double least = 1e9;
    for (const FrontPoint& point : points) {
      if (point.step_ms <= budget + 1e-9) least = std::min(least, point.noise);
    }
    const FrontPoint got = point_of(mixes, within_time(mixes, budget));
    EXPECT_LE(got.step_ms, budget + 1e-9);
    EXPECT_DOUBLE_EQ(got.noise, least) << budget;
  }
  EXPECT_THROW(static_cast<void>(within_time(mixes, 3.4)), Error);
}

TEST(AutoSearch, FrontGetsLargerAndBetter) {
  const MixTable mixes = table();
  const auto front = front_of(mixes);
  ASSERT_GE(front.size(), 4U);
  for (size_t i = 1; i < front.size(); ++i) {
    const FrontPoint a = point_of(mixes, front[i - 1].chosen), b = point_of(mixes, front[i].chosen);
    EXPECT_LT(a.bytes, b.bytes);
    EXPECT_GT(a.noise, b.noise);
  }
  EXPECT_EQ(point_of(mixes, front.back().chosen).noise, 0) << "everything kept";
}

TEST(AutoSearch, RecipeGivesEachLayerItsFormat) {
  const quant::Recipe recipe = recipe_of(table(), {0, 1, 2, 1}, {});
  const quant::RuleMatcher matcher(recipe);
  const auto bits = [&](const char* name) {
    const auto spec = matcher.choose(name, quant::LayerKind::kLinear).spec;
    return spec.weight ? spec.weight->bits : 0;
  };
  EXPECT_EQ(bits("a.b"), 0);
  EXPECT_EQ(bits("c"), 8);
  EXPECT_EQ(bits("d"), 4);
  EXPECT_EQ(bits("e"), 8);
  EXPECT_EQ(bits("axb"), 0) << "the dot is no wildcard";
  EXPECT_EQ(quant::parse_recipe(quant::to_json(recipe), "r").hash(), recipe.hash());
}

TEST(AutoSearch, PageIsSelfContained) {
  std::vector<FrontPoint> points = {point_of(table(), {2, 2, 2, 2}),
                                    point_of(table(), {1, 1, 1, 1}),
                                    point_of(table(), {0, 0, 0, 0})};
  points[1].psnr = 33.25;
  points[1].chosen = true;
  Budget budget;
  budget.min_psnr = 30;
  const std::string page = front_page("<m>: mixes", budget, points);
  for (const char* part : {"<svg", "<polyline", "<circle", "33.25", "&lt;m&gt;", "4 int8"}) {
    EXPECT_NE(page.find(part), std::string::npos) << part;
  }
  for (const char* part : {"<script", "http://", "https://", "nan", "inf"}) {
    EXPECT_EQ(page.find(part), std::string::npos) << part;
  }
}

}  // namespace
}  // namespace halftone::workflow
