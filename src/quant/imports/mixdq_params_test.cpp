// ckpt.pth and new_ckpt.pth as MixDQ writes them (scripts/golden/torch_files.py).
#include "quant/imports/mixdq_params.h"

#include <fstream>

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "base/folder.h"

namespace halftone::quant {
namespace {

namespace fs = std::filesystem;

const fs::path kFolder = fs::path(HALFTONE_SOURCE_DIR) / "tests" / "golden" / "torch";
constexpr const char* kShortcut = "up_blocks.0.resnets.0.conv_shortcut";

TEST(MixdqParams, ReadsBothFiles) {
  const MixdqParams exact = read_mixdq_params(kFolder / "ckpt.pth");
  const MixdqParams small = read_mixdq_params(kFolder / "new_ckpt.pth");
  ASSERT_EQ(exact.weights.size(), 3U);
  ASSERT_EQ(small.weights.size(), 3U);
  EXPECT_EQ(exact.weights.at("conv_in")[2].size(), 4U);
  EXPECT_EQ(exact.weights.at(std::string(kShortcut) + "_0")[0].size(), 2U);
  // -3 .. 4.5 in 8 bits: 7.5 / 255, zero at rne(3 / that) = 102.
  EXPECT_FLOAT_EQ(exact.inputs.at("conv_in").delta[2], 7.5F / 255.0F);
  EXPECT_EQ(exact.inputs.at("conv_in").zero, (std::array<float, 3>{1, 6, 102}));
  EXPECT_EQ(small.inputs.at("conv_in").zero, (std::array<float, 3>{1, 6, 102}));
  for (size_t i = 0; i < 3; ++i) {
    for (size_t c = 0; c < 4; ++c) {
      EXPECT_NEAR(small.weights.at("conv_in")[i][c], exact.weights.at("conv_in")[i][c], 6e-6);
    }
  }
  ASSERT_EQ(exact.warnings.size(), 1U);  // the attention's own quantizer
  EXPECT_NE(exact.warnings.front().find("1 other entries"), std::string::npos);
}

TEST(MixdqParams, GiveTheRecipeItsRanges) {
  const MixdqParams params = read_mixdq_params(kFolder / "ckpt.pth");
  const BitTable bits = {{"conv_in", 8}};
  const Recipe recipe = with_mixdq_ranges(mixdq_recipe(bits, bits, false), bits, params);
  const LayerSpec spec = RuleMatcher(recipe).choose("conv_in", LayerKind::kConv).spec;
  // delta 7.5/255, zero 102: from -102 to 153 steps.
  EXPECT_NEAR(*spec.input_low, -3.0F, 1e-6);
  EXPECT_NEAR(*spec.input_high, 4.5F, 1e-6);
  EXPECT_FALSE(recipe.needs_record());
  EXPECT_EQ(parse_recipe(to_json(recipe), "r").hash(), recipe.hash());
  const BitTable unknown = {{"conv_out", 8}};
  EXPECT_THROW((void)with_mixdq_ranges(mixdq_recipe(unknown, unknown, false), unknown, params),
               Error);
}

// -1 .. 2 and -8 .. 7 in 8 bits: zeros 85 and 136, so that 0 is a code.
TEST(MixdqParams, GiveBothHalvesOfAShortcutTheirRanges) {
  const MixdqParams params = read_mixdq_params(kFolder / "ckpt.pth");
  const BitTable bits = {{kShortcut, 8}};
  Recipe recipe = mixdq_recipe(bits, bits, false);
  EXPECT_TRUE(recipe.split_shortcut);
  const auto expect_range = [&](const MixdqParams& from, const std::string& layer, float low,
                                float high) {
    const Recipe ranged = with_mixdq_ranges(recipe, bits, from);
    const LayerSpec spec = RuleMatcher(ranged).choose(layer, LayerKind::kConv).spec;
    EXPECT_NEAR(*spec.input_low, low, 1e-5) << layer;
    EXPECT_NEAR(*spec.input_high, high, 1e-5) << layer;
    EXPECT_TRUE(spec.weight) << layer;
    EXPECT_EQ(parse_recipe(to_json(ranged), "r").hash(), ranged.hash());
  };
  const std::string second = std::string(kShortcut) + "_0";
  expect_range(params, kShortcut, -1, 2);
  expect_range(params, second, -8, 7);
  MixdqParams whole = params;
  whole.inputs.erase(second);
  expect_range(whole, second, -1, 2);
  recipe.split_shortcut = false;
  expect_range(params, kShortcut, -8, 7);
}

TEST(MixdqParams, RefuseOtherFiles) {
  for (const char* name : {"act_sensitive.pt", "values.pt"}) {
    try {
      (void)read_mixdq_params(kFolder / name);
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::kCorruptFile);
      EXPECT_NE(std::string(error.what()).find(name), std::string::npos);
    }
  }
}

// One byte of the golden file at a time: scales and zero points that no quantizer has.
TEST(MixdqParams, RefuseOddNumbers) {
  std::ifstream in(kFolder / "ckpt.pth", std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  const TemporaryFolder temporary;
  const fs::path path = temporary.path() / "ckpt.pth";
  const auto refusal = [&](const std::string& text) -> std::string {
    std::ofstream(path, std::ios::binary) << text;
    try {
      (void)read_mixdq_params(path);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  const float delta = 7.5F / 255.0F;
  const std::string_view as_bytes(reinterpret_cast<const char*>(&delta), 4);
  const size_t at = bytes.find(as_bytes);
  ASSERT_NE(at, std::string::npos);
  for (const float odd : {0.0F, -1.0F, std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity()}) {
    std::string changed = bytes;
    changed.replace(at, 4, reinterpret_cast<const char*>(&odd), 4);
    EXPECT_NE(refusal(changed).find("not positive"), std::string::npos) << odd;
  }
  const float zero = 102.0F;
  const size_t zero_at = bytes.find(std::string_view(reinterpret_cast<const char*>(&zero), 4));
  ASSERT_NE(zero_at, std::string::npos);
  const float out_of_range = 256.0F;
  std::string changed = bytes;
  changed.replace(zero_at, 4, reinterpret_cast<const char*>(&out_of_range), 4);
  EXPECT_NE(refusal(changed).find("zero point 256"), std::string::npos);
  std::string renamed = bytes;
  for (size_t i = 0; (i = renamed.find("delta_list", i)) != std::string::npos; ++i)
    renamed[i] = 'D';
  EXPECT_NE(refusal(renamed).find("has no delta_list"), std::string::npos);
}

TEST(LayerLists, AreLinesOrATorchList) {
  const std::vector<std::string> expected = {"conv_in", "down_blocks.0.resnets.0.conv2"};
  EXPECT_EQ(read_layer_list(kFolder / "act_sensitive.pt"), expected);
  const TemporaryFolder temporary;
  const fs::path path = temporary.path() / "list.txt";
  std::ofstream(path) << "# FP16\nmodel.conv_in\r\n\n  down_blocks.0.resnets.0.conv2\n";
  EXPECT_EQ(read_layer_list(path), expected);
  EXPECT_THROW((void)read_layer_list(kFolder / "values.pt"), Error);
}

}  // namespace
}  // namespace halftone::quant
