#include "quant/imports/mixdq.h"

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "quant/schemes/scheme.h"

namespace halftone::quant {
namespace {

TEST(BitTables, ReadMixdqsFiles) {
  const BitTable table = parse_bit_table(
      "# weight_5.02_1.06.yaml\nmodel.conv_in: 8\nmodel.down_blocks.0.resnets.0.conv1: 4\r\n\n"
      "mid_block.attentions.0.proj_in: 2  # smallest\n",
      "w.yaml");
  EXPECT_EQ(table, (BitTable{{"conv_in", 8},
                             {"down_blocks.0.resnets.0.conv1", 4},
                             {"mid_block.attentions.0.proj_in", 2}}));
  EXPECT_EQ(parse_bit_table(print_bit_table(table), "again"), table);
}

TEST(BitTables, RefuseEverythingElse) {
  for (const char* bad : {"",
                          "# nothing",
                          "conv_in",
                          "conv_in: 3",
                          "conv_in: 16",
                          "conv_in: -8",
                          "conv_in: 8.0",
                          "conv_in: [8]",
                          "conv_in:\n  weight: 8",
                          "conv_in: 8\nmodel.conv_in: 8",
                          "a: &x 8\nb: *x",
                          "<<: 8",
                          "a: !!python/object 8",
                          "---\na: 8",
                          "a\tb: 8",
                          "\xff\xfe: 8",
                          "a: 8\n...\nb: 4",
                          ": 8",
                          "a: ",
                          "model.: 8"}) {
    try {
      (void)parse_bit_table(bad, "w.yaml");
      ADD_FAILURE() << "accepted: " << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::kCorruptFile) << bad;
      EXPECT_NE(std::string(error.what()).find("w.yaml: line"), std::string::npos) << error.what();
    }
  }
}

TEST(MixdqRecipe, KeepsInputsThatTheActivationFileLacks) {
  const Recipe recipe = mixdq_recipe({{"conv_in", 8}, {"ff.net.2", 4}}, {{"ff.net.2", 8}}, false);
  const RuleMatcher matcher(recipe);
  EXPECT_FALSE(matcher.choose("conv_in", LayerKind::kConv).spec.activation);
  EXPECT_FALSE(matcher.choose("conv_inn", LayerKind::kConv).spec.weight);
  const LayerSpec spec = matcher.choose("ff.net.2", LayerKind::kLinear).spec;
  EXPECT_EQ(spec.weight->bits, 4);
  EXPECT_FALSE(spec.activation->symmetric);
  EXPECT_FALSE(matcher.choose("ffxnetx2", LayerKind::kLinear).spec.weight);
  EXPECT_EQ(parse_recipe(to_json(recipe), "r").hash(), recipe.hash());
  EXPECT_THROW((void)mixdq_recipe({{"a", 8}}, {{"b", 8}}, false), Error);
}

TEST(OneDiffLayers, TheBestShareIsKept) {
  constexpr std::string_view kText =
      R"({"a": {"ssim": 0.9}, "b": {"ssim": 0.99}, "c": {"ssim": 0.5}, "d": {"ssim": 0.95}})";
  EXPECT_EQ(parse_onediff_layers(kText, "l.json", 75), (std::vector<std::string>{"b", "d", "a"}));
  EXPECT_EQ(parse_onediff_layers(kText, "l.json", 74).size(), 2U);
  for (const char* bad :
       {"[]", R"({"a": 1})", R"({"a": {}})", R"({"a": {"ssim": "x"}})", R"({"a": {"ssim": 7}})"}) {
    EXPECT_THROW((void)parse_onediff_layers(bad, "l.json", 90), Error) << bad;
  }
  EXPECT_THROW((void)parse_onediff_layers(kText, "l.json", 0), Error);
  SchemeOptions options;
  options.scheme = "fp8_e4m3_e4m3_dynamic";
  const Recipe recipe = only_layers(make_recipe(options), {"b", "d"});
  const RuleMatcher matcher(recipe);
  EXPECT_TRUE(matcher.choose("b", LayerKind::kLinear).spec.weight);
  EXPECT_FALSE(matcher.choose("a", LayerKind::kLinear).spec.weight);
}

}  // namespace
}  // namespace halftone::quant
