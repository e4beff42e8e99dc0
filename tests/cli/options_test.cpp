// Options that contradict each other are refused; what has no effect is warned of, once.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "process.h"

namespace halftone::cli_test {
namespace {

namespace fs = std::filesystem;

const Words kDraw = {"generate", "a cat", "--size",    "64x48", "--seed", "7",
                     "-o",       "a.png", "--threads", "2",     "-m"};

// The lines of a text that hold a part.
int lines_with(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at)) {
    ++count;
    at = std::min(text.find('\n', at), text.size());
  }
  return count;
}

class Options : public ::testing::Test {
 protected:
  void refused(const Words& words, const std::string& message, int exit_code = 2) const {
    const Outcome got = scratch_.run(words);
    EXPECT_EQ(got.exit_code, exit_code) << message << ": " << got.err;
    EXPECT_TRUE(contains(got.err, message)) << got.err;
    EXPECT_FALSE(fs::exists(scratch_.path("a.png"))) << message;
  }
  void warned(const Words& words, const std::string& message) const {
    const Outcome got = scratch_.run(words);
    EXPECT_EQ(got.exit_code, 0) << got.err;
    EXPECT_EQ(lines_with(got.err, "warning"), 1) << got.err;
    EXPECT_TRUE(contains(got.err, message)) << got.err;
    fs::remove(scratch_.path("a.png"));
  }
  void silent(const Words& words) const {
    const Outcome got = scratch_.run(words);
    EXPECT_EQ(got.exit_code, 0) << got.err;
    EXPECT_FALSE(contains(got.err, "warning")) << got.err;
    fs::remove(scratch_.path("a.png"));
  }

  Scratch scratch_;
  const Words xl_ = kDraw + Words{golden("tiny-sdxl")};
  const Words sd15_ = kDraw + Words{golden("tiny-sd15"), "--steps", "1"};
};

TEST_F(Options, OfTheRequestThatContradict) {
  std::ofstream(scratch_.path("n.txt")) << "blurry\n";
  refused(xl_ + Words{"-n", "x", "--negative-prompt-file", "n.txt"}, "--negative-prompt-file both");
  refused(xl_ + Words{"--steps", "3", "--timesteps", "800,400"}, "steps: got 3");
  refused(xl_ + Words{"--steps", "1", "--sigmas", "10,5,2"}, "steps: got 1");
  refused(xl_ + Words{"--scheduler", "karras", "--sigma-schedule", "beta"}, "sigma schedule");
  refused(xl_ + Words{"--sampling-method", "euler", "--scheduler", "karras", "--sigma-schedule",
                      "beta"},
          "both name the sigma schedule");
  refused(xl_ + Words{"--scheduler", "karras", "--timesteps", "800,400"}, "a list of timesteps");
  refused(xl_ + Words{"--output-type", "latent", "--dump-latents", "l.safetensors"},
          "--output and --dump-latents");
  refused(sd15_ + Words{"--negative-prompt-2", "x"}, "sd15 models have one text encoder");
  refused(sd15_ + Words{"--text-encoder-2", golden("tiny-sdxl") + "/text_encoder_2"},
          "sd15 models have no text_encoder_2");
  refused(sd15_ + Words{"--unet", golden("tiny-sdxl") + "/unet"}, "sd15 models have another kind");
  refused(xl_ + Words{"--unet", golden("tiny-sd15") + "/unet"}, "sdxl models have another kind");
  silent(xl_ + Words{"--steps", "2", "--timesteps", "800,400"});
  silent(xl_ + Words{"--steps", "1", "--scheduler", "karras", "--sigma-schedule", "karras"});
}

TEST_F(Options, OfTheRequestWithoutEffect) {
  const Words one = xl_ + Words{"--steps", "1"};
  warned(one + Words{"--eta", "0.5"}, "the scheduler euler takes none");
  silent(one + Words{"--eta", "0.5", "--scheduler", "ddim"});
  warned(one + Words{"-n", "blurry", "--cfg-scale", "1"}, "no guidance at --cfg-scale 1");
  warned(one + Words{"-p", "a dog", "-n", "blurry", "--cfg-scale", "0"}, "no guidance");
  fs::remove(scratch_.path("a_1.png"));
  silent(one + Words{"-n", "blurry", "--cfg-scale", "2"});
  silent(one + Words{"-n", "", "--cfg-scale", "1"});
  silent(one + Words{"--original-size", "64x64"});
  for (const char* flag : {"--original-size", "--target-size", "--crop-top-left"}) {
    warned(sd15_ + Words{flag, "32x32"}, "sd15 models take no sizes");
  }
}

TEST_F(Options, OfQuantization) {
  const Words one = xl_ + Words{"--steps", "1", "--precision", "fp32"};
  const Words all[] = {{"--quantization-level", "2"},
                       {"--quant-algo", "max"},
                       {"--alpha", "0.5"},
                       {"--activations", "static"},
                       {"--attention", "fp8"},
                       {"--policy", "none"},
                       {"--exclude", "ff"},
                       {"--include", "ff"},
                       {"--split-shortcut"},
                       {"--bos-aware"},
                       {"--collect-method", "max"},
                       {"--percentile", "0.5"},
                       {"--calib-compat", "nemo"},
                       {"--calib-size", "4"},
                       {"--ranges", "none"},
                       {"--simulate"}};
  for (const Words& words : all) {
    warned(one + words, words.front() + ": without effect: nothing is quantized");
  }
  warned(one + Words{"--exclude", "ff", "--alpha", "0.5"}, "--alpha, --exclude: without effect");
  silent(one + Words{"--quant-type", "int8_dynamic", "--exclude", "ff"});
  const Words model = {"-m", golden("tiny-sdxl"), "--size", "64x48", "--threads", "2"};
  const Words draw = model + Words{"--steps", "1"};
  warned(Words{"compare", "a cat", "--b", "bf16", "--exclude", "ff"} + draw, "no side quantizes");
  const Words dynamic = {"quantize", "--quant-type", "int8_dynamic", "-o", "d.json"};
  ASSERT_EQ(scratch_.run(dynamic + model).exit_code, 0);
  warned(Words{"compare", "a cat", "--b", "d.json", "--exclude", "ff"} + draw,
         "--exclude: without effect: the recipe says");
  silent(Words{"compare", "a cat", "--a", "int8_dynamic", "--b", "d.json", "--exclude", "ff"} +
         draw);
  warned(Words{"bench", "e2e", "a cat", "a dog", "--iterations", "1"} + draw, "only the first");
  warned(Words{"calibrate", "a cat", "--calib-size", "1", "-o", "r.rec", "--exclude", "ff"} + draw,
         "a record serves every recipe");
  ASSERT_EQ(
      scratch_.run(Words{"build", "--component", "unet", "--save", "u.plan"} + model).exit_code, 0);
  warned(xl_ + Words{"--steps", "1", "--plan", "u.plan", "--exclude", "ff"}, "the plan says");
  const Words bench = Words{"bench", "e2e", "--iterations", "1", "--plan", "u.plan"} + draw;
  silent(bench + Words{"--compare", "fp32"});

  const Words plain = xl_ + Words{"--steps", "1"};
  refused(plain + Words{"--precision", "int8", "--quant-type", "fp8"}, "contradict");
  refused(plain + Words{"--precision", "fp8", "--quant-type", "int8_dynamic"}, "contradict");
  const Words config = {"--quantize-config", R"({"quant_type":"int8_dynamic"})"};
  silent(plain + config + Words{"--quant-type", "int8_dynamic"});
  refused(plain + config + Words{"--quant-type", "int8_weightonly"}, "both name the scheme");
  refused(plain + Words{"--quantize-config", R"({"quant_type":"int8_dynamic","bits":4})"},
          "unknown key 'bits'");
  refused(plain + Words{"--quantize-config", "{}"}, "wanted {\"quant_type\"");
  refused(plain + Words{"--precision", "fp32", "--int8"},
          "--precision fp32 and --int8 both set the precision; give one");
  silent(plain + Words{"--precision", "fp32", "--fp32"});
}

// What an installed recipe says is said where options do not change it.
TEST_F(Options, BesideAnInstalledRecipe) {
  fs::copy(golden("tiny-sdxl"), scratch_.path("model"), fs::copy_options::recursive);
  ASSERT_EQ(scratch_
                .run({"quantize", "-m", "model", "--quant-type", "int8_dynamic", "-o", "r.json",
                      "--install"})
                .exit_code,
            0);
  const Words draw = kDraw + Words{"model", "--steps", "1"};
  warned(draw + Words{"--exclude", "ff"}, "recipe.json says what is quantized");
  silent(draw);
}

TEST_F(Options, OfOtherVerbs) {
  const Words model = {"-m", golden("tiny-sdxl")};
  const Words calibrate = Words{"calibrate", "a cat", "--size", "64x48"} + model;
  refused(calibrate + Words{"--n-steps", "2", "--steps", "3"}, "--n-steps and --steps");
  refused(calibrate + Words{"--ranges", "a.rec", "-o", "b.rec"}, "--output and --ranges");
  const Words small = {"--minShapes", "sample:2x4x16x16"};
  const Words large = {"--maxShapes", "sample:2x4x64x64"};
  const Words build = Words{"build", "--dry-run"} + model;
  refused(build + small + Words{"--optShapes", "sample:2x4x8x16"}, "--minShapes: got 2 rows");
  refused(build + large + Words{"--optShapes", "sample:4x4x8x8"}, "--optShapes: got 4 rows");
  refused(build + Words{"--minShapes", "x:2x4x16x16", "--maxShapes", "x:2x4x16x8"}, "--maxShapes");
  silent(build + small + large + Words{"--optShapes", "sample:2x4x32x16"});
  silent(build + Words{"--shapes", "sample:2x4x16x16,timestep:1,encoder_hidden_states:2x77x2048"});
  refused({"devices", "--device", "abacus"}, "--device abacus: not found");
  EXPECT_TRUE(contains(scratch_.run({"devices", "--device", "cpu"}).out, "cpu: "));
  refused({"models", "list", "--seed", "3"}, "belongs to 'halftone models random'");
  refused({"models", "random", "--family", "sdxl", "--tiny", "--out", "m", "--seed", "-2"},
          "wanted -1");
  const Words random = {"models", "random", "--family", "sdxl", "--tiny", "--seed", "-1", "--out"};
  EXPECT_TRUE(contains(scratch_.run(random + Words{"m/x"}).err, "seed "));
  const Outcome both = scratch_.run({"models", "list", "--models-dir", "m", "--family", "sdxl"});
  EXPECT_TRUE(contains(both.out, "m/x")) << both.out;
  const Outcome other = scratch_.run({"models", "list", "--models-dir", "m", "--family", "sd15"});
  EXPECT_EQ(other.out, "");
}

TEST_F(Options, InspectNamesWhatItIsGiven) {
  std::ofstream(scratch_.path("r.json")) << R"({"halftone_recipe": 1})";
  std::ofstream(scratch_.path("t.txt")) << "some text";
  refused({"inspect", "r.json"}, "'halftone inspect --layers r.json'", 3);
  refused({"inspect", "t.txt"}, "is no plan, PNG picture", 3);
  refused({"inspect", "--layers", "t.txt"}, "has no layers");
  refused({"inspect", golden("tiny-sdxl"), "--exclude", "ff"}, "--exclude: needs --layers");
}

TEST_F(Options, FlagsInTheEnvironmentAndInFiles) {
  const auto precision = [&](const Words& words, const Scratch::Environment& environment) {
    const Outcome got =
        scratch_.run(Words{"generate", "a cat", "--dry-run", "-m", golden("tiny-sdxl")} + words, "",
                     environment);
    EXPECT_EQ(got.exit_code, 0) << got.err;
    const Json json = parse_json(got.out, "stdout");
    return JsonView(json, "stdout").at("request").at("precision").string();
  };
  const auto file = [&](const std::string& text) {
    std::ofstream(scratch_.path("c.toml")) << text;
    return Words{"--config", "c.toml"};
  };
  EXPECT_EQ(precision({}, {{"HALFTONE_FP32", "1"}}), "fp32");
  EXPECT_EQ(precision({}, {{"HALFTONE_INT8", "true"}}), "int8");
  EXPECT_EQ(precision({"--fp32"}, {{"HALFTONE_INT8", "true"}}), "fp32");
  EXPECT_EQ(precision({"--fp32"}, {{"HALFTONE_INT8", "false"}}), "fp32");
  EXPECT_EQ(precision(file("fp32 = true\n"), {}), "fp32");
  EXPECT_EQ(precision(file("int8 = true\n"), {}), "int8");
  EXPECT_EQ(precision(file("int8 = true\n") + Words{"--precision", "fp32"}, {}), "fp32");
  EXPECT_EQ(precision(file("int8 = true\n"), {{"HALFTONE_FP32", "yes"}}), "fp32");
  EXPECT_EQ(precision(file("int8 = false\nprecision = \"fp32\"\nno_metadata = on\n"), {}), "fp32");
  refused(xl_ + file("int8 = true\nprecision = \"fp32\"\n"), "c.toml: --precision fp32 and --int8");
  refused(xl_ + file("no_metadata = 7\n"), "c.toml: no_metadata: got '7', wanted true or false");
  refused(xl_ + file("torch_inference = true\n"), "c.toml: not supported: --torch-inference");
  const Outcome bad = scratch_.run(xl_, "", {{"HALFTONE_INT8", "maybe"}});
  EXPECT_EQ(bad.exit_code, 2);
  EXPECT_TRUE(contains(bad.err, "HALFTONE_INT8: got 'maybe', wanted true or false")) << bad.err;
  const Outcome json = scratch_.run({"devices"}, "", {{"HALFTONE_JSON", "true"}});
  EXPECT_TRUE(contains(json.out, "halftone.devices")) << json.out;
  EXPECT_FALSE(fs::exists(scratch_.path("true")));
  const Outcome wrong = scratch_.run({"devices", "--abacus"}, "", {{"HALFTONE_JSON", "1"}});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_TRUE(contains(wrong.out, R"("key":"--abacus")")) << wrong.out;
}

// Of what contradicts, that counts which was typed.
TEST_F(Options, AStrongerSourceSetsAWeakersAside) {
  const Words draw = {"generate", "a cat", "--dry-run", "-m", golden("tiny-sdxl")};
  const auto done = [&](const Words& words, const Scratch::Environment& environment) {
    const Outcome got = scratch_.run(words, "", environment);
    EXPECT_EQ(got.exit_code, 0) << got.err;
    return got.out;
  };
  const auto request = [&](const Words& words, const Scratch::Environment& environment) {
    const Json json = parse_json(done(draw + words, environment), "stdout");
    const JsonView view = JsonView(json, "stdout").at("request");
    return fmt::format("{}x{} {} {}", view.at("width").integer(), view.at("height").integer(),
                       view.at("steps").integer(), view.string_or("negative_prompt", "-"));
  };
  std::ofstream(scratch_.path("n.txt")) << "blurry\n";
  std::ofstream(scratch_.path("c.toml")) << "steps = 20\nsize = \"64x48\"\n";
  EXPECT_EQ(
      request(
          {"-W", "32", "-H", "48", "--timesteps", "800,400", "--negative-prompt-file", "n.txt"},
          {{"HALFTONE_SIZE", "64x64"}, {"HALFTONE_STEPS", "5"}, {"HALFTONE_NEGATIVE_PROMPT", "x"}}),
      "32x48 2 blurry");
  EXPECT_EQ(request({"--sigmas", "9,3,1", "--config", "c.toml"}, {}), "64x48 2 -");
  EXPECT_EQ(
      request({"-W", "32", "--config", "c.toml", "--steps", "1"}, {{"HALFTONE_HEIGHT", "48"}}),
      "32x48 1 -");
  const Outcome both =
      scratch_.run(draw, "", {{"HALFTONE_SIZE", "64x64"}, {"HALFTONE_WIDTH", "8"}});
  EXPECT_EQ(both.exit_code, 2) << both.err;

  // Of a precision and a scheme only where one is of integers and the other of FP8.
  const auto unet = [&](const Words& words, const Scratch::Environment& environment) {
    const std::string text = done(draw + Words{"--cache-dir", "none"} + words, environment);
    const Json json = parse_json(text, "stdout");
    for (const JsonView& plan : JsonView(json, "stdout").at("plans").items()) {
      if (plan.at("component").string() == "unet") return plan.at("precision").string();
    }
    return std::string("no unet: ") + text;
  };
  const std::string fp8 = "fp8_e4m3_e4m3_dynamic";
  EXPECT_TRUE(contains(unet({"--quant-type", fp8}, {{"HALFTONE_PRECISION", "int8"}}), "+" + fp8));
  EXPECT_TRUE(contains(unet({"--quant-type", fp8}, {{"HALFTONE_INT8", "1"}}), "+" + fp8));
  EXPECT_EQ(unet({"--scheme", "int8_dynamic"}, {{"HALFTONE_PRECISION", "bf16"}}),
            "bf16+int8_dynamic");
  EXPECT_EQ(unet({"--precision", "bf16"}, {{"HALFTONE_QUANT_TYPE", fp8}}), "bf16+" + fp8);
  refused(draw + Words{"--precision", "int8", "--quant-type", fp8}, "contradict each other");
  done({"quantize", "-m", golden("tiny-sdxl"), "--scheme", "int8_dynamic", "-o", "r.json"}, {});
  EXPECT_EQ(unet({"--precision", "bf16", "--recipe", "r.json"},
                 {{"HALFTONE_QUANT_TYPE", "fp8"}, {"HALFTONE_ATTENTION", "fp8"}}),
            "bf16+int8_dynamic");

  const Scratch::Environment common = {{"HALFTONE_SEED", "7"},
                                       {"HALFTONE_MODEL", "emoji-xl"},
                                       {"HALFTONE_PRECISION", "int8"},
                                       {"HALFTONE_DEVICE", "cuda:7"}};
  EXPECT_TRUE(contains(done({"models", "show", "emoji-xl"}, common), "family sdxl"));
  EXPECT_TRUE(contains(done({"inspect", golden("tiny-sdxl")}, common), "unet"));
  EXPECT_TRUE(contains(done({"devices"}, common), "cpu: "));
  refused({"inspect", golden("tiny-sdxl"), "-memoji-xl"}, "--model: needs --layers");
  refused({"models", "list", "--seed=7"}, "belongs to 'halftone models random'");
  refused(xl_ + Words{"--steps", "1", "--steps", "2"}, "--steps: got 1 and 2; give one");
}

TEST_F(Options, ABadCacheIsToldOfOnce) {
  const Words draw = xl_ + Words{"--steps", "1", "--cache-dir"};
  warned(draw + Words{"/proc/halftone"}, "cache folder /proc/halftone: cannot be made");
  fs::create_directories(scratch_.path("open/plans"));
  fs::permissions(scratch_.path("open/plans"), fs::perms::all);
  warned(draw + Words{"open"}, "may be written by other users");
}

TEST_F(Options, PromptsThatAreNoUtf8AreNamed) {
  std::ofstream(scratch_.path("p.txt")) << "a cat\n\na d\xffg\n";
  const Words draw = {"generate", "-m", golden("tiny-sdxl"), "-o", "a.png", "--size", "64x48"};
  const std::string message = "p.txt: line 3: malformed UTF-8 at byte 3 (0xff)";
  refused(draw + Words{"@p.txt"}, message);
  refused(draw + Words{"--prompt-file", "p.txt"}, message);
  refused(draw + Words{"a cat", "--negative-prompt-file", "p.txt"}, message);
}

// Of several prompts one document too, on stdout as in files; a failure is one.
TEST_F(Options, JsonIsOneDocument) {
  const Words draw = xl_ + Words{"--steps", "1", "-p", "a dog", "--save-report", "s.json"};
  const Outcome got = scratch_.run(draw + Words{"--json"});
  ASSERT_EQ(got.exit_code, 0) << got.err;
  ASSERT_EQ(scratch_.run(draw + Words{"--json=j.json"}).exit_code, 0);
  for (const std::string& text :
       {got.out, slurp(scratch_.path("s.json")), slurp(scratch_.path("j.json"))}) {
    const Json json = parse_json(text, "reports");
    const std::vector<JsonView> reports = JsonView(json, "reports").items();
    ASSERT_EQ(reports.size(), 2U);
    EXPECT_EQ(reports[0].at("files").strings(), Words{"a_1.png"});
    EXPECT_EQ(reports[1].at("request").at("prompt").string(), "a dog");
  }
  const Outcome full = scratch_.run({"devices", "--json=/dev/full"});
  EXPECT_EQ(full.exit_code, 1);
  EXPECT_EQ(lines_with(full.err, "/dev/full: cannot be written"), 1) << full.err;
}

}  // namespace
}  // namespace halftone::cli_test
