#include "quant/recipe.h"

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "quant/record.h"

namespace halftone::quant {
namespace {

using graph::Granularity;

Recipe sample() {
  Recipe recipe;
  recipe.scheme = "int8";
  recipe.level = 2.5;
  recipe.alpha = 0.8;
  recipe.collect.method = Collect::Method::kHistogram;
  recipe.collect.histogram_percentile = 99.99;
  LayerSpec spec;
  spec.weight = QuantSpec{.granularity = Granularity::kPerChannel};
  spec.activation = QuantSpec{.granularity = Granularity::kPerToken, .dynamic = true};
  spec.smooth = true;
  spec.alpha = 0.6;
  recipe.rules.push_back({"to_[qkv]", LayerKind::kLinear, spec, "level 2.5"});
  LayerSpec conv;
  conv.weight = QuantSpec{.granularity = Granularity::kPerChannel};
  conv.activation = QuantSpec{.symmetric = false};
  conv.input_low = -0.25F;
  conv.input_high = 3.5F;
  recipe.rules.push_back({".", LayerKind::kConv, conv, ""});
  recipe.rules.push_back({"conv_in", LayerKind::kAny, {}, "excluded"});
  return recipe;
}

TEST(Recipe, JsonRoundTrips) {
  const Recipe recipe = sample();
  const Recipe again = parse_recipe(to_json(recipe), "r.json");
  EXPECT_EQ(to_json(again), to_json(recipe));
  EXPECT_EQ(again.hash(), recipe.hash());
  EXPECT_EQ(again.rules[0].spec, recipe.rules[0].spec);
  EXPECT_TRUE(again.needs_record());
}

TEST(Recipe, TheLeastSqnrOfAStaticScaleIsKept) {
  const auto with = [](std::optional<double> least) {
    Recipe recipe = sample();
    LayerSpec spec;
    spec.weight = QuantSpec{.granularity = Granularity::kPerChannel};
    spec.activation = QuantSpec{};
    spec.input_amax = 3.0F;
    spec.min_sqnr = least;
    recipe.rules = {{"net.2", LayerKind::kLinear, spec, "static"}};
    return recipe;
  };
  for (const double least : {0.0, 30.5, 100.0}) {
    const Recipe again = parse_recipe(to_json(with(least)), "r.json");
    EXPECT_EQ(again.rules[0].spec.min_sqnr, least);
    EXPECT_EQ(again.hash(), with(least).hash());
    EXPECT_TRUE(again.needs_record()) << "what is predicted comes from there";
  }
  EXPECT_FALSE(parse_recipe(to_json(with({})), "r.json").rules[0].spec.min_sqnr);
  EXPECT_FALSE(with({}).needs_record()) << "the range is given";
  EXPECT_NE(with(30).hash(), with({}).hash());
  EXPECT_NE(with(30).hash(), with(31).hash()) << "another plan";
}

TEST(Recipe, TheLastMatchingRuleWins) {
  const Recipe recipe = sample();
  const RuleMatcher matcher(recipe);
  EXPECT_TRUE(matcher.choose("attn1.to_q", LayerKind::kLinear).spec.smooth);
  EXPECT_FALSE(matcher.choose("attn1.to_q", LayerKind::kConv).spec.activation->symmetric);
  EXPECT_FALSE(matcher.choose("conv_in", LayerKind::kConv).spec.weight);
  EXPECT_EQ(matcher.choose("conv_in", LayerKind::kConv).why, "excluded");
  EXPECT_FALSE(matcher.choose("proj_in", LayerKind::kLinear).spec.weight);
}

TEST(Recipe, NamesSayWhatIsTrue) {
  CalibrationRecord record;
  record.key = {{"batch", "1"}};
  record.num_steps = 20;
  record.samples = 32;
  EXPECT_EQ(readable_name(sample(), &record), "int8.l2.5.bs1.s20.c32.p1.0.a0.8");
  Recipe dynamic;
  dynamic.scheme = "fp8";
  EXPECT_EQ(readable_name(dynamic, &record), "fp8");
}

std::string with_rule(const std::string& rule) {
  return R"({"halftone_recipe":1,"scheme":"x","rules":[)" + rule + "]}";
}

TEST(Recipe, RefusesWhatMakesNoSense) {
  const std::string w = R"("weight":{"dtype":"i8","granularity":"per_channel"})";
  const std::string bad[] = {
      "[]",
      R"({"halftone_recipe":2,"scheme":"x","rules":[]})",
      R"({"halftone_recipe":1,"scheme":"","rules":[]})",
      R"({"halftone_recipe":1,"scheme":"../x","rules":[]})",
      R"({"halftone_recipe":1,"scheme":"x"})",
      R"({"halftone_recipe":1,"scheme":"x","rules":[],"surprise":1})",
      R"({"halftone_recipe":1,"scheme":"x","percentile":0,"rules":[]})",
      R"({"halftone_recipe":1,"scheme":"x","collect_method":"hist:101","rules":[]})",
      R"({"halftone_recipe":1,"scheme":"x","calib_compat":"trt8","rules":[]})",
      with_rule(R"({"pattern":"("})"),
      with_rule(R"({"pattern":7})"),
      with_rule(R"({"pattern":"a","kind":"linear","static_min_sqnr":30})"),
      with_rule(R"({"pattern":"a","kind":"linear",)" + w +
                R"(,"activation":{"dtype":"i8","dynamic":true},"static_min_sqnr":30})"),
      with_rule(R"({"pattern":"a","kind":"linear",)" + w +
                R"(,"activation":{"dtype":"i8","symmetric":false},"static_min_sqnr":30})"),
      with_rule(R"({"pattern":"a","kind":"conv2d",)" + w +
                R"(,"activation":{"dtype":"i8"},"static_min_sqnr":30})"),
      with_rule(R"({"pattern":"a","kind":"linear",)" + w +
                R"(,"activation":{"dtype":"i8"},"static_min_sqnr":-1})"),
      with_rule(R"({"pattern":"a","kind":"linear",)" + w +
                R"(,"activation":{"dtype":"i8"},"static_min_sqnr":100.5})"),
      with_rule(
          R"({"pattern":"a","kind":"linear","weight":{"dtype":"f8e4m3"},"activation":{"dtype":"f8e4m3"},"static_min_sqnr":30})"),
      with_rule(R"({"pattern":"a","kind":"norm"})"),
      with_rule(R"({"pattern":"a","kind":"attention","weight":{"dtype":"i8"}})"),
      with_rule(R"({"pattern":"a","attention":{"qk":{"dtype":"i8"},"v":{"dtype":"f8e4m3"}}})"),
      with_rule(
          R"({"pattern":"a","kind":"attention","attention":{"qk":{"dtype":"i8"},"v":{"dtype":"i8"}}})"),
      with_rule(
          R"({"pattern":"a","kind":"attention","attention":{"qk":{"dtype":"i8"},"v":{"dtype":"f8e4m3"},"center_keys":true}})"),
      with_rule(R"({"pattern":"a","weight":{"dtype":"i8","bits":3}})"),
      with_rule(R"({"pattern":"a","weight":{"dtype":"i4"}})"),
      with_rule(R"({"pattern":"a","weight":{"dtype":"f8e4m3","bits":4}})"),
      with_rule(R"({"pattern":"a","activation":{"dtype":"i8"}})"),
      with_rule(R"({"pattern":"a",)" + w + R"(,"activation":{"dtype":"f8e4m3"}})"),
      with_rule(R"({"pattern":"a",)" + w +
                R"(,"activation":{"dtype":"i8","granularity":"per_token"}})"),
      with_rule(R"({"pattern":"a",)" + w + R"(,"input_amax":-1})"),
      with_rule(R"({"pattern":"a",)" + w + R"(,"input_low":1,"input_high":0})"),
      with_rule(R"({"pattern":"a",)" + w + R"(,"input_low":1})"),
      with_rule(R"({"pattern":"a",)" + w + R"(,"smooth_alpha":2})"),
      with_rule(R"({"pattern":"a",)" + w + R"(,"range_margin":0})"),
      with_rule(R"({"pattern":"a",)" + w + R"(,"range_margin":11})"),
      with_rule(R"({"pattern":"a","weight":{"dtype":"i8"},"oops":1})"),
  };
  for (const std::string& text : bad) {
    try {
      (void)parse_recipe(text, "r.json");
      ADD_FAILURE() << "accepted: " << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::kCorruptFile) << text;
      EXPECT_EQ(std::string(error.what()).rfind("r.json", 0), 0U) << error.what();
    }
  }
}

}  // namespace
}  // namespace halftone::quant
