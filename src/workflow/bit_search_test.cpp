// The choice of widths from a table made by hand, and the table of a tiny model.
#include "workflow/bit_search.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "backend/cpu/cpu_device.h"
#include "base/folder.h"
#include "quant/schemes/scheme.h"

namespace halftone::workflow {
namespace {

namespace fs = std::filesystem;

quant::Recipe base_recipe() {
  quant::SchemeOptions options;
  options.level = 3;
  options.smooth = false;
  options.policy = "none";
  return quant::make_recipe(options);
}

// Shares at widths 2, 4, 8 of the weights and 4, 8 of the inputs.
LayerSensitivity layer(const std::string& name, int64_t count, const std::vector<double>& noise) {
  LayerSensitivity result;
  result.name = name;
  result.kind = quant::LayerKind::kLinear;
  result.num_weights = result.num_inputs = count;
  result.num_outputs = 4;
  for (const double share : noise) {
    result.effects.push_back(Effect{.noise = share, .shares = {share}, .ssim_loss = 1 - share});
  }
  return result;
}

// A layer that hardly matters, one that does, and one that matters and is small.
SensitivityTable table() {
  SensitivityTable result;
  result.formats = {"w2", "w4", "w8", "a4", "a8"};
  result.layers = {layer("a.to_q", 1000, {0.02, 0.01, 0.009, 0.01, 0.005}),
                   layer("b.to_q", 1000, {0.9, 0.1, 0.01, 0.5, 0.01}),
                   layer("c.to_q", 100, {0.8, 0.3, 0.001, 0.4, 0.01})};
  return result;
}

TEST(ChooseBits, TakesTheLeastSum) {
  const BitTargets targets{.weights = 4.19, .inputs = {}, .protect = {}};
  // 2100 weights, 8757 to 8841 bits: a 4, b 4, c 8 has 8800, a 2, b 8 is too large.
  const BitSearch four = choose_bits(base_recipe(), table(), targets);
  EXPECT_EQ(four.weights, (quant::BitTable{{"a.to_q", 4}, {"b.to_q", 4}, {"c.to_q", 8}}));
  EXPECT_NEAR(four.bits, 8800.0 / 2100.0, 1e-12);
  ASSERT_GE(four.points.size(), 3U);
  const auto chosen = std::ranges::find_if(four.points, &FrontPoint::chosen);
  ASSERT_NE(chosen, four.points.end());
  EXPECT_EQ(chosen->bytes, 8800U / 8 + sizeof(float) * 3 * 4);
  EXPECT_NEAR(chosen->noise, 0.01 + 0.1 + 0.001, 1e-12);
  EXPECT_EQ(chosen->formats,
            (std::vector<std::pair<std::string, int>>{{"w2", 0}, {"w4", 2}, {"w8", 1}}));
  EXPECT_TRUE(std::ranges::is_sorted(four.points, {}, &FrontPoint::bytes));
  const quant::RuleMatcher matcher(four.recipe);
  EXPECT_EQ(matcher.choose("a.to_q", quant::LayerKind::kLinear).spec.weight->bits, 4);
  EXPECT_EQ(matcher.choose("c.to_q", quant::LayerKind::kLinear).spec.weight->bits, 8);
  EXPECT_EQ(quant::parse_bit_table(quant::print_bit_table(four.weights), "w"), four.weights);
}

TEST(ChooseBits, NeverWorseThanUniform) {
  for (const double bits : {2.0, 4.0, 8.0}) {
    BitTargets targets{.weights = bits, .inputs = {}, .protect = {}};
    const BitSearch searched = choose_bits(base_recipe(), table(), targets);
    targets.objective = BitObjective::kUniform;
    const BitSearch uniform = choose_bits(base_recipe(), table(), targets);
    EXPECT_EQ(uniform.bits, bits);
    EXPECT_LE(searched.noise, uniform.noise);
  }
}

TEST(ChooseBits, InputsAndProtectedLayers) {
  // Of a and b alone 6 bits: a takes 4, b takes 8.
  const BitTargets targets{.weights = 8, .inputs = 6, .protect = {"c.to_q"}};
  const BitSearch found = choose_bits(base_recipe(), table(), targets);
  EXPECT_EQ(found.inputs, (quant::BitTable{{"a.to_q", 4}, {"b.to_q", 8}}));
  EXPECT_EQ(*found.act_bits, 6.0);
  const quant::RuleMatcher matcher(found.recipe);
  EXPECT_EQ(matcher.choose("a.to_q", quant::LayerKind::kLinear).spec.activation->bits, 4);
  const quant::LayerSpec kept = matcher.choose("c.to_q", quant::LayerKind::kLinear).spec;
  EXPECT_TRUE(kept.weight);
  EXPECT_FALSE(kept.activation);
}

TEST(ChooseBits, RefusesWhatCannotBe) {
  const auto refuses = [&](const BitTargets& targets) {
    EXPECT_THROW((void)choose_bits(base_recipe(), table(), targets), Error);
  };
  refuses({.weights = 1.5, .inputs = {}, .protect = {}});
  refuses({.weights = 9, .inputs = {}, .protect = {}});
  refuses({.weights = std::nan(""), .inputs = {}, .protect = {}});
  refuses({.weights = 8, .inputs = 3, .protect = {}});
  refuses({.weights = 8, .inputs = {}, .protect = {"unknown"}});
  // A mean between two choices.
  refuses({.weights = 7.9, .inputs = {}, .protect = {}});
  refuses({.weights = 5, .inputs = {}, .objective = BitObjective::kUniform, .protect = {}});
}

TEST(SensitivityJson, ReadsBackAndRefuses) {
  const std::string text = to_json(table(), "key");
  std::string key;
  EXPECT_EQ(to_json(parse_sensitivity(text, "s.json", &key), "key"), text);
  EXPECT_EQ(key, "key");
  for (const char* bad :
       {"", "{}", R"({"schema":"x","key":"","formats":[],"layers":[]})",
        R"({"schema":"halftone.sensitivity/v2","key":"","formats":["a"],"layers":[{"name":"n",
            "op":"linear","num_weights":1,"num_inputs":1,"num_outputs":1,"effects":[]}]})"}) {
    EXPECT_THROW((void)parse_sensitivity(bad, "s.json", nullptr), Error) << bad;
  }
}

// Measured on a tiny model: stopped in the middle and taken up again, and coarser is worse.
TEST(Sensitivity, IsTakenUpAndOrdered) {
  const TemporaryFolder temporary;
  const fs::path& folder = temporary.path();
  const auto device = backend::cpu::create_cpu_device({.threads = 1, .disabled_features = {}});
  SessionOptions session;
  session.model.model = (fs::path(HALFTONE_SOURCE_DIR) / "tests" / "golden" / "tiny-sdxl").string();
  GenerateOptions generate;
  generate.width = generate.height = 64;
  generate.steps = 2;
  generate.guidance = 5.0;
  SensitivityOptions options;
  for (const int bits : {4, 8}) {
    quant::LayerSpec spec;
    spec.weight = quant::channel_weights(DType::kI8, bits);
    quant::Recipe recipe;
    recipe.rules = {{"^mid_block.*attn1", quant::LayerKind::kLinear, spec, "test"}};
    options.formats.push_back({"w" + std::to_string(bits), recipe});
  }
  options.prompts = {"a red fox"};
  options.file = folder / "table.json";
  int measured = 0;
  session.progress = [&](const Progress& progress) {
    return progress.stage != "sensitivity" || ++measured < 3;
  };
  EXPECT_THROW((void)measure_sensitivity(*device, session, generate, options), Error);
  const int before = measured;
  session.progress = [&](const Progress& progress) {
    if (progress.stage == "sensitivity") ++measured;
    return true;
  };
  const SensitivityTable found = measure_sensitivity(*device, session, generate, options);
  // The layer at which it was stopped had been kept.
  EXPECT_EQ(measured - before, static_cast<int>(found.layers.size()) - before);
  size_t ordered = 0;
  for (const LayerSensitivity& row : found.layers) {
    ASSERT_TRUE(row.effects[0] && row.effects[1]) << row.name;
    EXPECT_EQ(row.effects[0]->weight_bits, 4);
    EXPECT_EQ(row.effects[0]->shares.size(), 1U);
    EXPECT_GE(row.effects[0]->noise, 0);
    if (row.effects[0]->noise > row.effects[1]->noise) ++ordered;
  }
  EXPECT_GT(ordered, found.layers.size() * 9 / 10);
  measured = 0;
  static_cast<void>(measure_sensitivity(*device, session, generate, options));
  EXPECT_EQ(measured, 0);
}

}  // namespace
}  // namespace halftone::workflow
