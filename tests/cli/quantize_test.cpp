// Recipes, tables of layers and quantized plans as a user meets them.
#include <fstream>
#include <set>

#include <gtest/gtest.h>

#include "process.h"

namespace halftone::cli_test {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLayer = "mid_block.attentions.0.transformer_blocks.0.ff.net.2";

// A scheme without calibration keeps these quick.
class Quantized : public ::testing::Test {
 protected:
  Quantized() {
    fs::copy(golden("tiny-sdxl"), scratch_.path("model"), fs::copy_options::recursive);
  }

  [[nodiscard]] Outcome generate(const Words& words) const {
    return scratch_.run(Words{"generate", "-m", "model", "--size", "64x48", "--steps", "2",
                              "--seed", "7", "--threads", "2", "a cat", "-o", "a.png"} +
                        words);
  }
  void make_recipe(const Words& words = {}) const {
    const Outcome made = scratch_.run(
        Words{"quantize", "-m", "model", "--quant-type", "int8_dynamic", "-o", "r.json"} + words);
    ASSERT_EQ(made.exit_code, 0) << made.err;
  }
  void build(const Words& words, const std::string& plan) const {
    const Outcome built = scratch_.run(Words{"build", "-m", "model", "--size", "64x48", "--threads",
                                             "2", "--component", "unet", "--save", plan} +
                                       words);
    ASSERT_EQ(built.exit_code, 0) << built.err;
  }

  // The row of one layer in the JSON of inspect --layers.
  [[nodiscard]] Json row(const Words& words) const {
    const Outcome shown = scratch_.run(Words{"inspect", "--layers", "--json"} + words);
    EXPECT_EQ(shown.exit_code, 0) << shown.err;
    const Json json = parse_json(shown.out, "stdout");
    for (const JsonView& layer : JsonView(json, "stdout").at("layers").items()) {
      if (layer.at("name").string() == kLayer) return layer.value();
    }
    ADD_FAILURE() << shown.out.substr(0, 500);
    return Json::object();
  }

  Scratch scratch_;
};

TEST_F(Quantized, LayersOfRecipePlanAndModelAgree) {
  make_recipe();
  build({"--recipe", "r.json"}, "q.plan");
  const Json of_table = row({"r.json"});
  EXPECT_EQ(of_table, row({"r.json", "-m", "model"}));
  EXPECT_EQ(of_table, row({"q.plan"}));
  EXPECT_EQ(of_table, row({"model", "--quant-type", "int8_dynamic"}));
  const JsonView view(of_table, "row");
  EXPECT_EQ(view.at("weight").string(), "i8 per_channel");
  EXPECT_EQ(view.at("input_bits").integer(), 8);
  EXPECT_FALSE(view.has("sqnr_db"));

  // What was measured once is shown from then on, of the plan too.
  const Json measured = row({"model", "--quant-type", "int8_dynamic", "--sqnr"});
  ASSERT_TRUE(JsonView(measured, "row").has("sqnr_db"));
  EXPECT_GT(JsonView(measured, "row").at("sqnr_db").number(), 20);
  EXPECT_EQ(measured, row({"q.plan"}));
  const Outcome table = scratch_.run({"inspect", "--layers", "q.plan"});
  for (const char* part :
       {"SQNR", "int8_dynamic", kLayer, "i8 per_token dynamic", "policy default"}) {
    EXPECT_TRUE(contains(table.out, part)) << part;
  }
}

// The rows of attentions; the tiny models' heads are too narrow for 8 bits.
std::vector<Json> attentions(const Outcome& outcome) {
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  const Json json = parse_json(outcome.out, "stdout");
  std::vector<Json> rows;
  for (const JsonView& layer : JsonView(json, "stdout").at("layers").items()) {
    if (layer.at("op").string() == "attention") rows.push_back(layer.value());
  }
  EXPECT_FALSE(rows.empty());
  return rows;
}

TEST(QuantizedAttention, HasItsSqnrBesideTheLayers) {
  const Scratch scratch;
  const std::string model = std::string(HALFTONE_SOURCE_DIR) + "/models/emoji-xl";
  const Words run = {"-m", model, "--size", "64x64", "--steps", "1", "--threads", "2"};
  const Words ranges = {"--quantization-level", "4", "--ranges", "r.safetensors"};
  std::ofstream(scratch.path("p.txt")) << "a cat\n";
  ASSERT_EQ(
      scratch.run(Words{"calibrate", "--calib-size", "1", "-o", "r.safetensors"} + run).exit_code,
      0);
  const Words compare = Words{"compare", "--prompts-file", "p.txt", "--json"} + run;
  for (const Words& side : {Words{"--b", "fp8"} + ranges,
                            Words{"--b", "fp8_e4m3_e4m3_dynamic", "--attention", "int8-fp8"}}) {
    for (const Json& json : attentions(scratch.run(compare + side))) {
      const JsonView row(json, "row");
      SCOPED_TRACE(row.at("name").string() + " " + row.at("scheme").string());
      EXPECT_TRUE(contains(row.at("scheme").string(), "probabilities fp8"));
      EXPECT_GT(row.at("sqnr").number(), 15);
      EXPECT_LT(row.at("sqnr").number(), 70);
    }
  }
  const Words inspect = {"inspect", "--layers", "--json", model};
  for (const Json& json : attentions(scratch.run(inspect + Words{"--precision", "fp8"} + ranges))) {
    const JsonView row(json, "row");
    SCOPED_TRACE(row.at("name").string());
    for (const char* operand : {"q", "k", "v"}) {
      const double amax = row.at("operand_amax").at(operand).number();
      EXPECT_GT(amax, 0);
      EXPECT_NEAR(row.at("operand_scale").at(operand).number(), amax / 448, 1e-6 * amax);
    }
    EXPECT_EQ(row.at("input_bits").integer(), 8);
    EXPECT_GT(row.at("sqnr_db").number(), 15);  // what compare measured
  }
  const Words self = {"--precision", "int8",     "--attention",
                      "fp8-self",    "--ranges", "r.safetensors"};
  for (const Json& json : attentions(scratch.run(inspect + self))) {
    const JsonView row(json, "row");
    const bool is_self = contains(row.at("name").string(), "attn1");
    EXPECT_EQ(row.at("input_bits").integer(), is_self ? 8 : 0) << row.at("name").string();
    EXPECT_EQ(row.has("operand_scale"), is_self) << row.at("name").string();
    EXPECT_EQ(row.at("why").string(), is_self
                                          ? "attention fp8-self"
                                          : "attention fp8-self: its keys are made once a prompt");
  }
}

TEST_F(Quantized, LayersOfWhatHasNoneAreRefused) {
  build({"--precision", "fp32"}, "plain.plan");
  const Outcome plain = scratch_.run({"inspect", "--layers", "plain.plan"});
  EXPECT_EQ(plain.exit_code, 2);
  EXPECT_TRUE(contains(plain.err, "quantizes nothing")) << plain.err;
  make_recipe();
  EXPECT_EQ(scratch_.run({"inspect", "--layers", "q.plan"}).exit_code, 3) << "no such file";
  fs::remove(scratch_.path("r.layers.json"));
  const Outcome lonely = scratch_.run({"inspect", "--layers", "r.json"});
  EXPECT_EQ(lonely.exit_code, 2);
  EXPECT_TRUE(contains(lonely.err, "name it with -m")) << lonely.err;
}

TEST_F(Quantized, PlanOfAnotherRecipeOrPrecisionIsRefusedByName) {
  build({"--quant-type", "int8_dynamic", "--precision", "fp32"}, "q.plan");
  build({"--precision", "fp32"}, "plain.plan");
  const Outcome taken = generate({"--plan", "q.plan"});
  EXPECT_EQ(taken.exit_code, 0) << taken.err;
  EXPECT_TRUE(contains(taken.err, "fp32+int8_dynamic")) << taken.err;
  EXPECT_EQ(generate({"--plan", "q.plan", "--quant-type", "int8_dynamic"}).exit_code, 0);

  struct Case {
    Words words;
    std::vector<std::string> parts;
  };
  for (const Case& c : std::vector<Case>{
           {{"--plan", "q.plan", "--precision", "fp32"}, {"int8_dynamic", "fp32, not quantized"}},
           {{"--plan", "q.plan", "--quant-type", "int8_weightonly"},
            {"is int8_dynamic", "asked for int8_weightonly"}},
           {{"--plan", "q.plan", "--quant-type", "int8_dynamic", "--exclude", "ff"}, {"recipe"}},
           {{"--plan", "q.plan", "--quant-type", "int8_dynamic", "--simulate"}, {"--simulate"}},
           {{"--plan", "plain.plan", "--quant-type", "int8_dynamic"},
            {"is fp32, not quantized", "asked for int8_dynamic"}},
           {{"--plan", "plain.plan", "--precision", "bf16"}, {"fp32", "bf16"}}}) {
    const Outcome refused = generate(c.words);
    EXPECT_EQ(refused.exit_code, 6) << c.words[3] << refused.err;
    for (const std::string& part : c.parts) {
      EXPECT_TRUE(contains(refused.err, part)) << part << ": " << refused.err;
    }
  }
}

TEST_F(Quantized, InstalledRecipeIsTakenAndNamed) {
  const Outcome before = generate({});
  ASSERT_EQ(before.exit_code, 0) << before.err;
  EXPECT_FALSE(contains(before.err, "int8")) << before.err;
  make_recipe({"--install"});
  const Outcome taken = generate({});
  ASSERT_EQ(taken.exit_code, 0) << taken.err;
  EXPECT_TRUE(contains(taken.err, "+int8_dynamic")) << taken.err;
  EXPECT_TRUE(contains(taken.err, "halftone/recipe.json")) << taken.err;
  const Outcome forced = generate({"--precision", "fp32"});
  ASSERT_EQ(forced.exit_code, 0) << forced.err;
  EXPECT_FALSE(contains(forced.err, "int8")) << forced.err;
  EXPECT_EQ(row({"model"}), row({"r.json"}));
}

// A model that brings no prompts is calibrated with those given, drawn as the request says.
TEST_F(Quantized, GivenPromptsCalibrateAModelWithoutAny) {
  std::ofstream(scratch_.path("prompts.txt")) << "a cat\na dog\n";
  const Words quantize = {"quantize", "-m",          "model",   "--precision", "int8",
                          "--size",   "64x48",       "--steps", "2",           "--threads",
                          "2",        "--cache-dir", "cache",   "-o",          "r.json"};
  const Outcome without = scratch_.run(quantize);
  EXPECT_NE(without.exit_code, 0);
  EXPECT_TRUE(contains(without.err, "halftone calibrate")) << without.err;
  const Outcome with = scratch_.run(quantize + Words{"--prompts-file", "prompts.txt"});
  ASSERT_EQ(with.exit_code, 0) << with.err;
  EXPECT_TRUE(contains(with.err, "calibrating into")) << with.err;
  const Outcome drawn = generate({"--precision", "int8", "--cache-dir", "cache"});
  EXPECT_EQ(drawn.exit_code, 0) << drawn.err;
  EXPECT_TRUE(contains(drawn.err, ".s2.c2")) << "2 steps of 2 prompts: " << drawn.err;
}

// Widths for weights and inputs, with one layer's input left alone.
TEST_F(Quantized, SearchedWidthsKeepProtectedInputs) {
  std::ofstream(scratch_.path("prompts.txt")) << "a cat\na dog\n";
  std::ofstream(scratch_.path("protect.txt")) << "mid_block.resnets.0.conv1\n";
  const Words request = {"-m",       "model",     "--size", "64x48",          "--steps",
                         "2",        "--threads", "2",      "--prompts-file", "prompts.txt",
                         "--ranges", "r.rec"};
  ASSERT_EQ(scratch_.run(Words{"calibrate", "--calib-size", "2"} + request).exit_code, 0);
  const Words layers = {"--quantization-level", "3", "--policy", "none", "--exclude",
                        "(down|up)_blocks"};
  const Words search = Words{"quantize",          "--precision", "int8", "--target-bits", "4",
                             "--target-act-bits", "5.19",        "-o",   "r.json"} +
                       layers + request;
  const Outcome made = scratch_.run(search + Words{"--protect", "protect.txt"});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  const std::string weights = slurp(scratch_.path("r.weight.yaml"));
  const std::string inputs = slurp(scratch_.path("r.act.yaml"));
  EXPECT_TRUE(contains(weights, "mid_block.resnets.0.conv1"));
  EXPECT_FALSE(contains(inputs, "mid_block.resnets.0.conv1")) << inputs;
  EXPECT_TRUE(contains(inputs, "mid_block.resnets.1.conv1")) << inputs;
  const Json table = parse_json(slurp(scratch_.path("r.layers.json")), "r.layers.json");
  for (const JsonView& layer : JsonView(table, "table").at("layers").items()) {
    if (layer.at("name").string() != "mid_block.resnets.0.conv1") continue;
    EXPECT_EQ(layer.at("input").string(), "");
    EXPECT_GT(layer.at("weight_bits").integer(), 0);
  }
  EXPECT_TRUE(contains(slurp(scratch_.path("r.html")), "<svg"));
  EXPECT_EQ(generate({"--recipe", "r.json", "--ranges", "r.rec"}).exit_code, 0);

  std::ofstream(scratch_.path("protect.txt")) << "mid_block.resnets.7.conv1\n";
  const Outcome unknown = scratch_.run(search + Words{"--protect", "protect.txt"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_TRUE(contains(unknown.err, "'mid_block.resnets.7.conv1' is no layer")) << unknown.err;
}

// MixDQ's ckpt.pth gives the inputs' ranges; no record is needed.
TEST_F(Quantized, RangesOfMixdqsFile) {
  std::ofstream(scratch_.path("w.yaml")) << "conv_in: 8\n";
  const Words import = {"quantize",   "-m",     "model", "--weight-bits", "w.yaml",
                        "--act-bits", "w.yaml", "-o",    "r.json",        "--quant-params"};
  const std::string params = golden("torch") + "/ckpt.pth";
  const Outcome wrong = scratch_.run(import + Words{params});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_TRUE(contains(wrong.err, "'conv_in' has scales of 4 channels")) << wrong.err;

  // The same file without that layer's scales: under another name they are of no layer.
  std::string bytes = slurp(params);
  const std::string key = "conv_in.weight_quantizer";
  bytes.replace(bytes.find(key), key.size(), "conv_ni.weight_quantizer");
  std::ofstream(scratch_.path("ckpt.pth"), std::ios::binary) << bytes;
  const Outcome made = scratch_.run(import + Words{"ckpt.pth"});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  const Json recipe = parse_json(slurp(scratch_.path("r.json")), "r.json");
  const JsonView rule = JsonView(recipe, "r.json").at("rules").items().back();
  EXPECT_NEAR(rule.at("input_low").number(), -3.0, 1e-5);
  EXPECT_NEAR(rule.at("input_high").number(), 4.5, 1e-5);
  EXPECT_EQ(generate({"--recipe", "r.json"}).exit_code, 0);
}

// One record of the decoder serves both forms of its convolutions.
TEST_F(Quantized, TheDecoderInInt8AndInFp8) {
  std::ofstream(scratch_.path("prompts.txt")) << "a cat\n";
  const Outcome calibrated = scratch_.run(
      {"calibrate", "-m", "model", "--size", "64x48", "--steps", "1", "--calib-size", "1",
       "--threads", "2", "--prompts-file", "prompts.txt", "--vae-precision", "fp8"});
  ASSERT_EQ(calibrated.exit_code, 0) << calibrated.err;
  std::set<std::string> pictures;
  for (const std::string precision : {"fp32", "int8", "fp8"}) {
    const Outcome drawn = generate({"--precision", "fp32", "--vae-precision", precision, "--json"});
    ASSERT_EQ(drawn.exit_code, 0) << drawn.err;
    pictures.insert(slurp(scratch_.path("a.png")));
    const Json json = parse_json(drawn.out, "stdout");
    for (const JsonView& plan : JsonView(json, "stdout").at("plans").items()) {
      if (plan.at("component").string() != "vae_decoder") continue;
      EXPECT_EQ(contains(plan.at("precision").string(), precision + "_vae"), precision != "fp32");
    }
  }
  EXPECT_EQ(pictures.size(), 3U);
  std::ofstream(scratch_.path("cut.vae.safetensors")) << "cut off";
  const Outcome damaged =
      generate({"--precision", "fp32", "--vae-precision", "fp8", "--ranges", "cut.safetensors"});
  EXPECT_EQ(damaged.exit_code, 3) << damaged.err;
  EXPECT_TRUE(contains(damaged.err, "--vae-precision fp8 --restart' to make it anew"))
      << damaged.err;
  const Outcome other = generate({"--vae-precision", "fp4"});
  EXPECT_EQ(other.exit_code, 2) << other.err;
}

// What would have no effect is refused or warned of.
TEST_F(Quantized, NothingIsIgnored) {
  make_recipe();
  const auto refused = [&](const Words& words, const std::string& text) {
    const Outcome outcome = scratch_.run(Words{"quantize", "-m", "model"} + words);
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    EXPECT_TRUE(contains(outcome.err, text)) << outcome.err;
    EXPECT_FALSE(std::filesystem::exists(scratch_.path("x.json")));
  };
  refused({"--recipe", "r.json", "--exclude", "conv_in", "-o", "x.json"}, "--exclude");
  refused({"--recipe", "r.json", "--alpha", "0.5", "-o", "x.json"}, "--alpha");
  const Outcome decoder =  // whose scheme reads the pattern; it lacks a record here
      generate({"--recipe", "r.json", "--exclude", "conv_in", "--vae-precision", "int8"});
  EXPECT_EQ(decoder.exit_code, 3) << decoder.err;
  EXPECT_TRUE(contains(decoder.err, "calibration record")) << decoder.err;
  refused({"--alpha", "1.5", "-o", "x.json"}, "wanted 0 to 1");
  refused({"--alpha", "fc=-3", "-o", "x.json"}, "wanted 0 to 1");
  refused({"--protect", "list.txt", "-o", "x.json"}, "--protect: needs --weight-bits");
  refused({"--act-bits", "a.yaml", "-o", "x.json"}, "--act-bits: needs --weight-bits");
  refused({"--sensitivity", "ssim", "-o", "x.json"}, "--sensitivity: needs --target-bits");
  refused({"-o", "none/x.json"}, "the folder none does not exist");
  const Outcome typo =
      scratch_.run({"quantize", "-m", "model", "--quant-type", "int8_dynamic", "--exclude",
                    "conv_inn", "--exclude", "conv_in", "-o", "y.json"});
  EXPECT_EQ(typo.exit_code, 0) << typo.err;
  EXPECT_TRUE(contains(typo.err, "'conv_inn' fits no layer")) << typo.err;
  EXPECT_FALSE(contains(typo.err, "'conv_in' fits")) << typo.err;
}

// MixDQ's shortcuts in halves, unless they are wanted whole.
TEST_F(Quantized, HalvesOfMixdqsShortcuts) {
  const std::string shortcut = "up_blocks.0.resnets.0.conv_shortcut";
  std::ofstream(scratch_.path("w.yaml")) << shortcut << ": 8\n";
  const auto weights = [&](const Words& words) {
    const Outcome made = scratch_.run(
        Words{"quantize", "-m", "model", "--weight-bits", "w.yaml", "-o", "r.json"} + words);
    EXPECT_EQ(made.exit_code, 0) << made.err;
    const Outcome shown = scratch_.run({"inspect", "--layers", "--json", "r.json"});
    const Json json = parse_json(shown.out, "stdout");
    std::vector<std::pair<std::string, int64_t>> rows;
    for (const JsonView& layer : JsonView(json, "stdout").at("layers").items()) {
      if (layer.at("weight").string() != "i8 per_channel") continue;
      rows.emplace_back(layer.at("name").string(), layer.at("num_weights").integer());
    }
    return rows;
  };
  // No shortcut is among these layers: a default that nothing takes is no reason to warn.
  std::ofstream(scratch_.path("v.yaml")) << "conv_in: 8\n";
  const Words import = {"quantize", "-m", "model", "--weight-bits", "v.yaml", "-o", "v.json"};
  EXPECT_FALSE(contains(scratch_.run(import).err, "warning"));
  EXPECT_FALSE(contains(generate({"--recipe", "v.json"}).err, "warning"));
  for (const char* flag : {"split_shortcut", "bos_aware"}) {
    const Outcome asked = scratch_.run(import + Words{std::string("--") + flag});
    EXPECT_TRUE(contains(asked.err, std::string(flag) + " changes nothing")) << asked.err;
  }
  // 24 channels from below and 24 of the skip connection to 24.
  using Rows = std::vector<std::pair<std::string, int64_t>>;
  EXPECT_EQ(weights({}), (Rows{{shortcut, 576}, {shortcut + "_0", 576}}));
  EXPECT_TRUE(contains(slurp(scratch_.path("r.json")), "\"split_shortcut\": true"));
  EXPECT_EQ(weights({"--split-shortcut"}).size(), 2U);
  EXPECT_EQ(generate({"--recipe", "r.json"}).exit_code, 0);
  build({"--recipe", "r.json"}, "q.plan");
  EXPECT_EQ(weights({"--no-split-shortcut"}), (Rows{{shortcut, 1152}}));
  const Outcome other = generate({"--plan", "q.plan", "--recipe", "r.json"});
  EXPECT_EQ(other.exit_code, 6) << other.err;
  EXPECT_TRUE(contains(other.err, "recipe")) << other.err;
  const Outcome both = scratch_.run(
      {"quantize", "-m", "model", "--split-shortcut", "--no-split-shortcut", "-o", "x.json"});
  EXPECT_EQ(both.exit_code, 2) << both.err;
}

// What text keys read is quantized but for the first token, unless it is to stay.
TEST_F(Quantized, MixdqsFirstToken) {
  const std::string key = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k";
  std::ofstream(scratch_.path("b.yaml")) << key << ": 8\n";
  std::ofstream(scratch_.path("p.txt")) << "a cat\n";
  const Words ranges{"--ranges", "record.safetensors"};
  const Outcome recorded =
      scratch_.run({"calibrate", "-m", "model", "--prompts-file", "p.txt", "--calib-size", "1",
                    "--steps", "2", "--size", "64x48", "-o", "record.safetensors"});
  ASSERT_EQ(recorded.exit_code, 0) << recorded.err;
  const auto input = [&](const Words& words) {
    const Outcome made = scratch_.run(Words{"quantize", "-m", "model", "--weight-bits", "b.yaml",
                                            "--act-bits", "b.yaml", "-o", "r.json"} +
                                      ranges + words);
    EXPECT_EQ(made.exit_code, 0) << made.err;
    const Outcome drawn = generate(Words{"--recipe", "r.json"} + ranges);
    EXPECT_EQ(drawn.exit_code, 0) << drawn.err;
    const Outcome shown = scratch_.run({"inspect", "--layers", "--json", "r.json"});
    const Json json = parse_json(shown.out, "stdout");
    for (const JsonView& layer : JsonView(json, "stdout").at("layers").items()) {
      if (layer.at("name").string() == key) return layer.at("input").string();
    }
    return std::string("no such layer");
  };
  EXPECT_EQ(input({}), "i8 per_tensor asymmetric");
  EXPECT_TRUE(contains(slurp(scratch_.path("r.json")), "\"bos_aware\": true"));
  EXPECT_EQ(input({"--no-bos-aware"}), "");
  const Outcome both =
      scratch_.run({"quantize", "-m", "model", "--bos-aware", "--no-bos-aware", "-o", "x.json"});
  EXPECT_EQ(both.exit_code, 2) << both.err;
}

// int8's choice of static scales by what a record predicts, from the command line to the layers.
TEST_F(Quantized, StaticScalesAsFarAsTheRecordAllows) {
  std::ofstream(scratch_.path("p.txt")) << "a cat\n";
  const Outcome recorded =
      scratch_.run({"calibrate", "-m", "model", "--prompts-file", "p.txt", "--calib-size", "1",
                    "--steps", "2", "--size", "64x48", "-o", "record.safetensors"});
  ASSERT_EQ(recorded.exit_code, 0) << recorded.err;
  const auto quantize = [&](const Words& words) {
    return scratch_.run(Words{"quantize", "-m", "model", "--precision", "int8",
                              "--quantization-level", "3", "--steps", "2", "--ranges",
                              "record.safetensors", "-o", "r.json"} +
                        words);
  };
  const auto num_layers = [&](const Words& words, const std::string& input) {
    const Outcome made = quantize(words);
    EXPECT_EQ(made.exit_code, 0) << made.err;
    const Json json = parse_json(slurp(scratch_.path("r.layers.json")), "r.layers.json");
    int count = 0;
    for (const JsonView& layer : JsonView(json, "r.layers.json").at("layers").items()) {
      const std::string& name = layer.at("name").string();
      if (!name.ends_with("ff.net.2") && !name.ends_with("to_out.0")) continue;
      count += layer.at("input").string() == input ? 1 : 0;
    }
    return count;
  };
  EXPECT_EQ(num_layers({}, "i8 per_tensor"), 0);
  const int all = num_layers({}, "i8 per_token dynamic");
  EXPECT_GT(all, 0);
  EXPECT_EQ(num_layers({"--activations", "static-producers"}, "i8 per_tensor"), all);
  const Words automatic = {"--activations", "auto", "--static-min-sqnr"};
  EXPECT_EQ(num_layers(automatic + Words{"0"}, "i8 per_tensor"), all);
  EXPECT_EQ(num_layers(automatic + Words{"100"}, "i8 per_token dynamic"), all);
  for (const Words& wrong :
       {Words{"--static-min-sqnr", "30"}, automatic + Words{"101"}, automatic + Words{"nan"}}) {
    const Outcome refused = quantize(wrong);
    EXPECT_EQ(refused.exit_code, 2) << refused.err;
  }
}

}  // namespace
}  // namespace halftone::cli_test
