// Parts of a comparison that need no whole run.
#include <algorithm>
#include <cmath>
#include <map>

#include <gtest/gtest.h>

#include "backend/cpu/cpu_device.h"
#include "workflow/compare/latent_traces.h"
#include "workflow/compare/markup.h"
#include "workflow/compare/tables.h"
#include "workflow/layer_sqnr.h"

namespace halftone::workflow {
namespace {

std::string base64_of(std::string_view text) { return base64(std::as_bytes(std::span(text))); }

TEST(Markup, Base64AsInRfc4648) {
  EXPECT_EQ(base64_of(""), "");
  EXPECT_EQ(base64_of("f"), "Zg==");
  EXPECT_EQ(base64_of("fo"), "Zm8=");
  EXPECT_EQ(base64_of("foo"), "Zm9v");
  EXPECT_EQ(base64_of("foobar"), "Zm9vYmFy");
  EXPECT_EQ(base64_of("\xff\xfe\xfb"), "//77");
}

TEST(Markup, TextCannotBecomeMarkup) {
  EXPECT_EQ(escape_html("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
  const BarChart chart{
      .title = "t", .unit = "dB", .bars = {{.value = 1, .label = "<script>"}}, .mean = 1};
  EXPECT_EQ(to_svg(chart).find("<script>"), std::string::npos);
}

TEST(Markup, TicksAreRoundAndCoverTheRange) {
  for (const auto& [low, high] : {std::pair{0.0, 1.0},
                                  {31.46, 43.12},
                                  {0.9762, 0.9967},
                                  {-3.0, 250.0},
                                  {5.0, 5.0},
                                  {99.9, 100.0}}) {
    const std::vector<double> ticks = axis_ticks(low, high);
    ASSERT_GE(ticks.size(), 2U);
    EXPECT_LE(ticks.size(), 12U);
    EXPECT_LE(ticks.front(), low + 1e-9);
    EXPECT_GE(ticks.back(), high - 1e-9);
    EXPECT_TRUE(std::is_sorted(ticks.begin(), ticks.end()));
  }
}

TEST(LatentTraces, ErrorsOfEveryStepAndOfTheLastAloneWhenMemoryIsShort) {
  const std::vector<float> ones = {1, 1}, near = {1, 0.9F};
  for (const bool is_short : {false, true}) {
    LatentTraces traces(2, is_short ? 20 : 1000);
    for (size_t prompt = 0; prompt < 2; ++prompt) {
      for (int step = 0; step < 3; ++step) traces.keep(prompt, step, ones);
    }
    for (int step = 0; step < 3; ++step) traces.measure(0, step, step == 2 ? near : ones);
    EXPECT_EQ(traces.num_steps(), is_short ? 0 : 3);
    ASSERT_TRUE(traces.last(0).has_value());
    EXPECT_NEAR(traces.last(0)->sqnr(), 10 * std::log10(2 / 0.01), 1e-4);
    EXPECT_FALSE(traces.last(1).has_value());
    EXPECT_EQ(traces.sqnr_at(0).size(), is_short ? 0U : 1U);
  }
}

class LayerSqnr : public ::testing::Test {
 protected:
  // Layer -> SQNR of the tiny model under a scheme that needs no record.
  std::map<std::string, double> run(const std::string& scheme) {
    SessionOptions session;
    session.model.model = std::string(HALFTONE_SOURCE_DIR) + "/tests/golden/tiny-sdxl";
    session.precision = Precision::kF32;
    session.quantization.scheme = scheme;
    GenerateOptions generate;
    generate.prompt = "a cat";
    generate.width = generate.height = 64;
    generate.steps = 2;
    generate.seed = 3;
    std::map<std::string, double> result;
    for (const LayerComparison& layer : layer_sqnr(*device_, session, generate)) {
      result[layer.name] = layer.sqnr;
    }
    return result;
  }

  std::unique_ptr<backend::Device> device_ =
      backend::cpu::create_cpu_device({.threads = 1, .disabled_features = {}});
};

TEST_F(LayerSqnr, FewerBitsLoseMoreInEveryLayer) {
  const auto eight = run("int8_weightonly");
  const auto four = run("int4_weightonly");
  ASSERT_GT(eight.size(), 10U);
  size_t both = 0;
  for (const auto& [name, sqnr] : eight) {
    EXPECT_GT(sqnr, 30) << name;
    EXPECT_LT(sqnr, 70) << name;
    const auto found = four.find(name);
    if (found == four.end()) continue;
    ++both;
    // Four bits less cost about 24 dB.
    EXPECT_LT(found->second, sqnr - 15) << name;
    EXPECT_GT(found->second, sqnr - 33) << name;
  }
  EXPECT_GT(both, 5U);
}

TEST_F(LayerSqnr, NothingWithoutARecipe) { EXPECT_TRUE(run("").empty()); }

}  // namespace
}  // namespace halftone::workflow
