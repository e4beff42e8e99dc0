#include <algorithm>
#include <fstream>
#include <thread>

#include <gtest/gtest.h>
#include <unistd.h>

#include "io/image.h"
#include "process.h"

namespace halftone::cli_test {
namespace {

namespace fs = std::filesystem;
using ::testing::Test;

const Words kTiny = {
    "generate", "-m", golden("tiny-sdxl"), "--size", "64x48", "--steps", "2", "--precision", "fp32",
    "--seed",   "7",  "--threads",         "2"};

// --- usage

TEST(Usage, HelpVersionAndUnknownVerb) {
  const Scratch scratch;
  EXPECT_EQ(scratch.run({"--help"}).exit_code, 0);
  EXPECT_EQ(scratch.run({}).exit_code, 2);
  const Outcome version = scratch.run({"--version", "--json"});
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_TRUE(contains(version.out, "\"schema\": \"halftone.version/v1\"")) << version.out;
  const Outcome unknown = scratch.run({"paint"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_TRUE(contains(unknown.err, "unknown verb 'paint'"));
  EXPECT_EQ(scratch.run({"serve"}).exit_code, 2);
}

TEST(Usage, EveryVerbHasHelp) {
  const Scratch scratch;
  for (const char* verb :
       {"generate", "build", "inspect", "bench", "devices", "models", "completion"}) {
    const Outcome help = scratch.run({verb, "--help"});
    EXPECT_EQ(help.exit_code, 0) << verb;
    EXPECT_TRUE(contains(help.out, "--json")) << verb;
  }
}

TEST(Usage, UnknownOptionNamesTheNearest) {
  const Scratch scratch;
  const Outcome got = scratch.run(kTiny + Words{"--stpes", "3", "a cat"});
  EXPECT_EQ(got.exit_code, 2);
  EXPECT_TRUE(contains(got.err, "unknown option '--stpes'")) << got.err;
  EXPECT_TRUE(contains(got.err, "did you mean '--steps'")) << got.err;
}

struct Refused {
  Words args;
  std::string part;
};

TEST(Usage, WhatCannotBeHonouredIsRefusedByName) {
  const Scratch scratch;
  const std::vector<Refused> table = {
      {{"--lora-weight", "0.5"}, "--lora PATH"},
      {{"--lora", "x.safetensors:much"}, "wanted a number"},
      {{"--alpha", "nan"}, "wanted a number"},
      {{"--lora", ":0.5"}, "PATH[:WEIGHT]"},
      {{"--torch-inference"}, "no torch"},
      {{"--hf-token", "x"}, "hf download"},
      {{"--download-onnx-models"}, "hf download"},
      {{"--control-net", "x"}, "not part of Halftone"},
      {{"-M", "convert"}, "quantize"},
      {{"-M", "metadata"}, "halftone inspect"},
      {{"--precision", "fp16"}, "CUDA"},
      {{"--type", "q8_0"}, "fp32, bf16"},
      {{"--format", "webp"}, "png only"},
      {{"--rng", "std_default"}, "torch generator"},
      {{"--guidance-rescale", "0.7"}, "linear"},
      {{"--clip-skip", "2"}, "not built"},
      {{"--sampling-method", "heun"}, "heun"},
      {{"--size", "big"}, "512x768"},
      {{"--seed", "x"}, "2^64"},
      {{"--steps", "0"}, "steps"},
      {{"--batch-size", "0"}, "batch-size"},
      {{"--steps"}, "needs a value"},
      {{"--steps", "--no-metadata"}, "needs a value"},
      {{"--output", "%s.png"}, "%03d"},
      {{"--output", "x.jpg"}, "png"},
      {{"--sigmas", "1,2", "--timesteps", "3"}, "give one"},
      {{"--strength", "0.5"}, "--init-img"},
  };
  const Words base = {"generate", "-m", golden("tiny-sdxl"), "--precision", "fp32", "a cat"};
  for (const Refused& row : table) {
    Words args = base;
    if (std::find(row.args.begin(), row.args.end(), "--precision") != row.args.end() ||
        std::find(row.args.begin(), row.args.end(), "--type") != row.args.end()) {
      args = {"generate", "-m", golden("tiny-sdxl"), "a cat"};
    }
    const Outcome got = scratch.run(args + row.args);
    EXPECT_EQ(got.exit_code, 2) << row.args.front() << ": " << got.err;
    EXPECT_TRUE(contains(got.err, row.part)) << row.args.front() << ": " << got.err;
  }
  EXPECT_TRUE(!fs::exists(scratch.path("output.png")));
}

TEST(Usage, ErrorsAsJson) {
  const Scratch scratch;
  const Outcome got = scratch.run({"generate", "--json", "-m", "/nowhere/model", "a cat"});
  EXPECT_EQ(got.exit_code, 3) << got.err;
  const Json json = parse_json(got.out, "stdout");
  EXPECT_EQ(JsonView(json, "stdout").at("error").at("code").string(), "not_found");
  const auto error_of = [&](const Outcome& outcome, const char* key) {
    const Json document = parse_json(outcome.out, "stdout");
    const JsonView error = JsonView(document, "stdout").at("error");
    EXPECT_EQ(error.at("exit_code").integer(), outcome.exit_code);
    EXPECT_FALSE(error.at("message").string().empty());
    return error.string_or(key, "");
  };
  const Outcome usage = scratch.run({"generate", "--json", "--stpes", "3", "a cat"});
  EXPECT_EQ(usage.exit_code, 2);
  EXPECT_EQ(error_of(usage, "code"), "invalid_argument");
  EXPECT_EQ(error_of(usage, "key"), "--stpes");
  EXPECT_EQ(error_of(usage, "remedy"), "did you mean '--steps'?");
  const Outcome absent = scratch.run({"generate", "--json", "-m", "nobody/nothing", "a cat"});
  EXPECT_TRUE(contains(error_of(absent, "remedy"), "hf download nobody/nothing")) << absent.out;
  const Outcome size = scratch.run(
      {"generate", "--json", "-m", golden("tiny-sdxl"), "-W", "100", "-H", "64", "a cat"});
  EXPECT_EQ(size.exit_code, 2) << size.err;
  EXPECT_EQ(error_of(size, "key"), "width");
  EXPECT_EQ(error_of(size, "got"), "100");
  EXPECT_EQ(error_of(size, "expected"), "a multiple of 8");
  // A damaged configuration: file and key.
  const fs::path model = scratch.path("model");
  fs::copy(golden("tiny-sdxl"), model, fs::copy_options::recursive);
  std::ofstream(model / "unet" / "config.json")
      << R"({"_class_name": "UNet2DConditionModel", "in_channels": "four"})";
  const Outcome corrupt = scratch.run({"generate", "--json", "-m", model.string(), "a cat"});
  EXPECT_EQ(corrupt.exit_code, 3);
  EXPECT_EQ(error_of(corrupt, "file"), (model / "unet/config.json").string());
  EXPECT_EQ(error_of(corrupt, "key"), "in_channels");
  EXPECT_EQ(error_of(corrupt, "got"), "string");
  EXPECT_EQ(error_of(corrupt, "expected"), "integer");
}

TEST(Usage, ExitCodes) {
  const Scratch scratch;
  EXPECT_EQ(scratch.run(kTiny).exit_code, 2);  // no prompt
  EXPECT_EQ(scratch.run({"generate", "-m", "nobody/nothing", "a cat"}).exit_code, 3);
  EXPECT_EQ(scratch.run(kTiny + Words{"--device", "cuda:0", "a cat"}).exit_code, 5);
  EXPECT_EQ(scratch.run(kTiny + Words{"--device", "abacus", "a cat"}).exit_code, 2);
  std::ofstream(scratch.path("bad.plan")) << "not a plan";
  EXPECT_EQ(scratch.run(kTiny + Words{"--plan", "bad.plan", "a cat"}).exit_code, 3);
  const Outcome odd =
      scratch.run({"generate", "-m", golden("tiny-sdxl"), "-W", "100", "-H", "64", "a cat"});
  EXPECT_EQ(odd.exit_code, 2);
  EXPECT_TRUE(contains(odd.err, "96 and 104")) << odd.err;
  EXPECT_EQ(scratch.run(kTiny + Words{"-o", "no/such/folder/x.png", "a cat"}).exit_code, 2);
}

// --- aliases

Json dry_run(const Scratch& scratch, const Words& args,
             const Scratch::Environment& environment = {}) {
  const Outcome got = scratch.run(
      Words{"generate", "--dry-run", "-m", golden("tiny-sdxl"), "--precision", "fp32"} + args, "",
      environment);
  EXPECT_EQ(got.exit_code, 0) << got.err;
  return parse_json(got.out, "stdout").find("request") == nullptr
             ? Json()
             : *parse_json(got.out, "stdout").find("request");
}

TEST(Aliases, SpellingsOfOtherToolsMeanTheSame) {
  const Scratch scratch;
  const Json want =
      dry_run(scratch, {"a cat", "--negative-prompt", "blurry", "--scheduler", "euler-a", "--steps",
                        "20", "--cfg-scale", "7", "--width", "128", "--height", "64", "--seed",
                        "42", "--batch-count", "2", "--sigma-schedule", "karras"});
  const std::vector<Words> spellings = {
      {"-p",          "a cat",       "-n",     "blurry",  "--sampling-method",
       "euler_a",     "--scheduler", "karras", "--steps", "20",
       "--cfg-scale", "7",           "-W",     "128",     "-H",
       "64",          "-s",          "42",     "-b",      "2"},
      {"a cat", "--negative_prompt=blurry", "--scheduler", "EulerAncestralDiscreteScheduler",
       "--num_inference_steps=20", "--guidance_scale", "7", "--size", "128x64", "--seed=42",
       "--batch-count=2", "--sigma_schedule", "karras"},
      {"a cat",
       "--negative-prompt",
       "blurry",
       "--scheduler",
       "EulerA",
       "--denoising-steps",
       "20",
       "--guidance-scale",
       "7",
       "--width",
       "128",
       "--height",
       "64",
       "--seed",
       "42",
       "-b2",
       "--sigma-schedule",
       "karras",
       "--onnx-dir",
       "onnx"},
  };
  for (const Words& words : spellings) {
    EXPECT_EQ(to_text(dry_run(scratch, words)), to_text(want)) << words[2];
  }
}

// Command lines of other tools' documents: only the program's name, the verb and the model's path
// are changed.
TEST(Aliases, CommandLinesOfOtherTools) {
  const Scratch scratch;
  fs::create_directory_symlink(golden("tiny-sdxl"), scratch.path("model"));
  const auto request_of = [&](const Words& words) {
    const Outcome got = scratch.run(words + Words{"--dry-run"});
    EXPECT_EQ(got.exit_code, 0) << words[0] << ": " << got.err;
    return got.exit_code == 0 ? *parse_json(got.out, "stdout").find("request") : Json();
  };
  const auto integer = [](const Json& request, const char* key) {
    return JsonView(request, "request").at(key).integer();
  };
  const auto word = [](const Json& request, const char* key) {
    return JsonView(request, "request").at(key).string();
  };
  const Json nemo = request_of(
      {"build", "--onnx=./model", "--shapes=x:8x4x128x128,timesteps:8,context:8x80x2048,y:8x2816",
       "--fp16", "--int8", "--builderOptimizationLevel=4", "--saveEngine=nemo_unet_xl.plan"});
  EXPECT_EQ(integer(nemo, "width"), 1024);
  EXPECT_EQ(integer(nemo, "batch_size"), 4);
  EXPECT_EQ(word(nemo, "precision"), "int8");
  const Json trt =
      request_of({"generate", "a beautiful photograph", "-m", "model", "--onnx-dir", "onnx-sdxl",
                  "--engine-dir", "engine-sdxl", "--int8", "--quantization-level", "2.5",
                  "--denoising-steps", "30", "--num-warmup-runs", "5"});
  EXPECT_EQ(integer(trt, "steps"), 30);
  EXPECT_EQ(word(trt, "precision"), "int8");
  const Json onediff =
      request_of({"generate", "a cat", "--model", "model", "--compiler-config",
                  R"({"mode":"quant:max-optimize:max-autotune:low-precision:cudagraphs:cache-all",)"
                  R"("memory_format":"channels_last","dynamic":true})",
                  "--quantize-config", R"({"quant_type":"fp8_e4m3_e4m3_dynamic"})",
                  "--run_multiple_resolutions", "1", "--saved-image", "sd3.png"});
  EXPECT_EQ(word(onediff, "prompt"), "a cat");
  const Json sd_cpp = request_of({"generate",    "-m",          "model",  "-p",
                                  "a cat",       "-n",          "blurry", "--sampling-method",
                                  "euler_a",     "--scheduler", "karras", "--steps",
                                  "20",          "--cfg-scale", "7",      "-W",
                                  "1024",        "-H",          "1024",   "-s",
                                  "42",          "-b",          "2",      "-o",
                                  "out_%03d.png"});
  EXPECT_EQ(word(sd_cpp, "scheduler") + " " + word(sd_cpp, "sigma_schedule"), "euler-a karras");
  EXPECT_EQ(integer(sd_cpp, "batch_count"), 2);

  EXPECT_EQ(scratch.run({"build", "--onnx", "unet.onnx"}).exit_code, 2);
  const Outcome unknown = scratch.run(
      {"generate", "a cat", "-m", "model", "--compiler-config", R"({"mode":"O9"})", "--dry-run"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_TRUE(contains(unknown.err, "unknown word 'O9'")) << unknown.err;
  const Outcome rows = scratch.run({"build", "-m", "model", "--shapes", "x:8x4x64x64,timesteps:2"});
  EXPECT_EQ(rows.exit_code, 2);
  EXPECT_TRUE(contains(rows.err, "8 as the others")) << rows.err;
  EXPECT_TRUE(contains(scratch.run({"--completion-bash"}).out, "generate"));
}

TEST(Aliases, AbsentNegativePromptIsNotEmpty) {
  const Scratch scratch;
  EXPECT_TRUE(dry_run(scratch, {"a cat"}).find("negative_prompt")->is_null());
  EXPECT_EQ(*dry_run(scratch, {"a cat", "-n", ""}).find("negative_prompt")->if_string(), "");
}

TEST(Aliases, FlagBeatsEnvironmentBeatsConfig) {
  const Scratch scratch;
  std::ofstream(scratch.path("c.toml")) << "steps = 5\ncfg_scale = 3.0\nseed = 1\n";
  const Words config = {"a cat", "--config", scratch.path("c.toml").string()};
  const auto steps = [&](const Json& json) { return json.find("steps")->if_integer().value(); };
  EXPECT_EQ(steps(dry_run(scratch, config)), 5);
  EXPECT_EQ(steps(dry_run(scratch, config, {{"HALFTONE_STEPS", "6"}})), 6);
  EXPECT_EQ(steps(dry_run(scratch, config + Words{"--steps", "7"}, {{"HALFTONE_STEPS", "6"}})), 7);
  EXPECT_EQ(dry_run(scratch, config).find("guidance")->if_number().value(), 3.0);
  std::ofstream(scratch.path("bad.toml")) << "stepps = 5\n";
  const Outcome bad =
      scratch.run(kTiny + Words{"a cat", "--config", scratch.path("bad.toml").string()});
  EXPECT_EQ(bad.exit_code, 2);
  EXPECT_TRUE(contains(bad.err, "did you mean 'steps'")) << bad.err;
}

// --- pictures

std::string text_chunk(const fs::path& file, const std::string& keyword) {
  for (const io::TextChunk& chunk : io::read_png_info(file).text) {
    if (chunk.keyword == keyword) return chunk.text;
  }
  return "";
}

TEST(Generate, SameSeedSameBytesAndPlanFromCache) {
  const Scratch scratch;
  const Outcome first = scratch.run(kTiny + Words{"a cat", "-o", "a.png"});
  ASSERT_EQ(first.exit_code, 0) << first.err;
  EXPECT_EQ(first.out, "a.png\n");
  EXPECT_TRUE(contains(first.err, "built")) << first.err;
  EXPECT_TRUE(contains(first.err, "|    Pipeline     |")) << first.err;
  EXPECT_TRUE(contains(first.err, "Throughput: ")) << first.err;
  EXPECT_TRUE(contains(first.err, "Seeds: 7")) << first.err;
  const Outcome second = scratch.run(kTiny + Words{"a cat", "-o", "b.png"});
  ASSERT_EQ(second.exit_code, 0) << second.err;
  EXPECT_TRUE(contains(second.err, "cache")) << second.err;
  EXPECT_FALSE(contains(second.err, "built")) << second.err;
  EXPECT_EQ(slurp(scratch.path("a.png")), slurp(scratch.path("b.png")));
  const Outcome other = scratch.run(kTiny + Words{"a dog", "-o", "c.png"});
  ASSERT_EQ(other.exit_code, 0);
  EXPECT_NE(slurp(scratch.path("a.png")), slurp(scratch.path("c.png")));
}

TEST(Generate, LowVramDrawsTheSameAndALimitIsKept) {
  const Scratch scratch;
  ASSERT_EQ(scratch.run(kTiny + Words{"a cat", "-o", "a.png"}).exit_code, 0);
  const Outcome low = scratch.run(kTiny + Words{"a cat", "-o", "b.png", "--low-vram"});
  ASSERT_EQ(low.exit_code, 0) << low.err;
  EXPECT_TRUE(contains(low.err, "Device memory: peak ")) << low.err;
  EXPECT_EQ(slurp(scratch.path("a.png")), slurp(scratch.path("b.png")));
  const Outcome over = scratch.run(kTiny + Words{"a cat", "-o", "c.png", "--memory-limit", "0.25"});
  EXPECT_EQ(over.exit_code, 4);
  EXPECT_TRUE(contains(over.err, "are free of the limit of 262144 bytes")) << over.err;
}

TEST(Generate, ReferenceCheckListsEveryNode) {
  const Scratch scratch;
  const Outcome got = scratch.run(kTiny + Words{"a cat", "-o", "a.png", "--reference-check"});
  EXPECT_EQ(got.exit_code, 0) << got.err;
  EXPECT_TRUE(contains(got.err, " nodes, 0 wrong")) << got.err;
}

TEST(Generate, ImageOfABatchCanBeMadeAgainAlone) {
  const Scratch scratch;
  ASSERT_EQ(scratch.run(kTiny + Words{"a cat", "-o", "all.png", "-b", "2"}).exit_code, 0);
  Words alone = kTiny;
  *std::find(alone.begin(), alone.end(), "7") = "8";
  ASSERT_EQ(scratch.run(alone + Words{"a cat", "-o", "second.png"}).exit_code, 0);
  const auto pixels = [&](const char* name) { return io::read_png(scratch.path(name)).image.rgb; };
  EXPECT_EQ(pixels("all_2.png"), pixels("second.png"));
  EXPECT_NE(pixels("all_1.png"), pixels("all_2.png"));
}

TEST(Generate, MetadataFollowWebUIsGrammar) {
  const Scratch scratch;
  const Outcome got = scratch.run(kTiny + Words{"a cat", "-n", "blurry", "-o", "a.png"});
  ASSERT_EQ(got.exit_code, 0) << got.err;
  const std::string parameters = text_chunk(scratch.path("a.png"), "parameters");
  EXPECT_TRUE(contains(parameters, "a cat\nNegative prompt: blurry\nSteps: 2, Sampler: Euler, "))
      << parameters;
  EXPECT_TRUE(contains(parameters, "Seed: 7, Size: 64x48, ")) << parameters;
  const Json json = parse_json(text_chunk(scratch.path("a.png"), "halftone"), "chunk");
  EXPECT_EQ(JsonView(json, "chunk").at("schema").string(), "halftone.image/v1");
  EXPECT_EQ(JsonView(json, "chunk").at("request").at("prompt").string(), "a cat");
  EXPECT_TRUE(
      contains(text_chunk(scratch.path("a.png"), "XML:com.adobe.xmp"), "trainedAlgorithmicMedia"));
  ASSERT_EQ(scratch.run(kTiny + Words{"a cat", "-o", "b.png", "--no-metadata"}).exit_code, 0);
  EXPECT_TRUE(io::read_png_info(scratch.path("b.png")).text.empty());
  const Outcome inspected = scratch.run({"inspect", "a.png"});
  EXPECT_EQ(inspected.exit_code, 0);
  EXPECT_TRUE(contains(inspected.out, "Sampler: Euler")) << inspected.out;
}

TEST(Generate, PromptsFromStdinFilesAndLists) {
  const Scratch scratch;
  std::ofstream(scratch.path("prompts.txt")) << "one\r\n\ntwo\n";
  EXPECT_EQ(scratch.run(kTiny + Words{"-", "-o", "s.png"}, "from stdin\n").exit_code, 0);
  EXPECT_EQ(text_chunk(scratch.path("s.png"), "parameters").substr(0, 10), "from stdin");
  const Outcome list = scratch.run(kTiny + Words{"@prompts.txt", "-o", "l_%02d.png"});
  EXPECT_EQ(list.exit_code, 0) << list.err;
  EXPECT_EQ(list.out, "l_00.png\nl_01.png\n");
}

TEST(Generate, OutputNames) {
  const Scratch scratch;
  EXPECT_EQ(scratch.run(kTiny + Words{"a cat"}).out, "output.png\n");
  EXPECT_EQ(scratch.run(kTiny + Words{"a cat"}).out, "output_1.png\n");
  const Outcome refused = scratch.run(kTiny + Words{"a cat", "-o", "output.png", "--no-clobber"});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_EQ(scratch.run(kTiny + Words{"a cat", "--output-dir", "new", "-o", "x.png"}).out,
            "new/x.png\n");
  for (const char* folder : {"new/", ".", "new/.."}) {
    const Outcome got = scratch.run(kTiny + Words{"a cat", "-o", folder});
    EXPECT_EQ(got.exit_code, 2) << folder;
    EXPECT_TRUE(contains(got.err, "names a folder")) << got.err;
  }
}

TEST(Generate, JsonTwin) {
  const Scratch scratch;
  const Outcome got = scratch.run(kTiny + Words{"--json", "a cat", "-o", "a.png"});
  ASSERT_EQ(got.exit_code, 0) << got.err;
  const Json json = parse_json(got.out, "stdout");
  const JsonView view(json, "stdout");
  EXPECT_EQ(view.at("schema").string(), "halftone.generate/v1");
  EXPECT_EQ(view.at("files").strings(), Words{"a.png"});
  EXPECT_EQ(view.at("plans").items().size(), 4U);
  EXPECT_GT(view.at("memory").at("static_bytes").integer(), 0);
}

TEST(Generate, ImageToImageAndLatents) {
  const Scratch scratch;
  ASSERT_EQ(scratch.run(kTiny + Words{"a cat", "-o", "a.png", "--dump-latents", "l.safetensors"})
                .exit_code,
            0);
  Words i2i = {"generate", "-m", golden("tiny-sdxl"), "--precision", "fp32",
               "--seed",   "3",  "--steps",           "4",           "a dog"};
  const Outcome got = scratch.run(i2i + Words{"-i", "a.png", "--strength", "0.5", "-o", "b.png"});
  ASSERT_EQ(got.exit_code, 0) << got.err;
  EXPECT_EQ(io::read_png_info(scratch.path("b.png")).width, 64);
  EXPECT_EQ(scratch.run(i2i + Words{"-i", "a.png", "--size", "96x96", "-o", "c.png"}).exit_code, 2);
  const Outcome latent =
      scratch.run(kTiny + Words{"a cat", "--output-type", "latent", "-o", "z.safetensors"});
  ASSERT_EQ(latent.exit_code, 0) << latent.err;
  EXPECT_TRUE(fs::exists(scratch.path("z.safetensors")));
  EXPECT_EQ(slurp(scratch.path("z.safetensors")), slurp(scratch.path("l.safetensors")));
  EXPECT_EQ(latent.out, "z.safetensors\n");
  const Words latents = kTiny + Words{"a cat", "--output-type", "latent"};
  EXPECT_EQ(scratch.run(latents + Words{"-o", "z.safetensors", "--no-clobber"}).exit_code, 2);
  EXPECT_EQ(scratch.run(latents + Words{"-o", "a.png"}).exit_code, 2);
  EXPECT_EQ(scratch.run(latents + Words{"-o", "y", "--output-dir", "made"}).exit_code, 0);
  EXPECT_TRUE(fs::exists(scratch.path("made/y.safetensors")));
}

TEST(Generate, APromptFileMayBeginWithAByteOrderMark) {
  const Scratch scratch;
  std::ofstream(scratch.path("p.txt")) << "\xEF\xBB\xBF"
                                       << "a cat\r\n";
  ASSERT_EQ(scratch.run(kTiny + Words{"--prompt-file", "p.txt", "-o", "a.png"}).exit_code, 0);
  ASSERT_EQ(scratch.run(kTiny + Words{"a cat", "-o", "b.png"}).exit_code, 0);
  EXPECT_EQ(slurp(scratch.path("a.png")), slurp(scratch.path("b.png")));
}

// --- interruption

TEST(Signals, StopWithinOneStepWithoutAFile) {
  for (const auto& [signal, code] : {std::pair{SIGINT, 130}, std::pair{SIGTERM, 143}}) {
    const Scratch scratch;
    const Words args = {
        "generate", "-m",   golden("tiny-sdxl"), "--size", "256x256", "--precision", "fp32",
        "--steps",  "1000", "--progress",        "json",   "a cat",   "-o",          "a.png"};
    const Outcome got =
        scratch.run_with(args, [signal = signal](pid_t process, const fs::path& err) {
          for (int i = 0;
               i < 600 && !contains(slurp(err), "\"event\":\"step\",\"stage\":\"denoise\""); ++i) {
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
          }
          ::kill(process, signal);
        });
    EXPECT_EQ(got.exit_code, code) << got.err;
    EXPECT_TRUE(contains(got.err, "cancelled")) << got.err;
    for (const auto& entry : fs::directory_iterator(scratch.folder())) {
      EXPECT_FALSE(contains(entry.path().filename().string(), "a.png")) << entry.path();
    }
  }
}

// --- plans

std::vector<fs::path> plans_in(const Scratch& scratch) {
  std::vector<fs::path> plans;
  const fs::path folder = scratch.path("cache/halftone/plans");
  if (!fs::exists(folder)) return plans;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".plan") plans.push_back(entry.path());
  }
  return plans;
}

TEST(Plans, CorruptEntriesAreSetAsideAndRebuilt) {
  const Scratch scratch;
  ASSERT_EQ(scratch.run(kTiny + Words{"a cat", "-o", "a.png"}).exit_code, 0);
  const std::vector<fs::path> plans = plans_in(scratch);
  ASSERT_EQ(plans.size(), 4U);
  for (const fs::path& plan : plans) {
    std::fstream file(plan, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(200);
    file.put('\x7f').put('\x13').put('\x55');
  }
  const Outcome again = scratch.run(kTiny + Words{"a cat", "-o", "b.png"});
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_TRUE(contains(again.err, "built")) << again.err;
  EXPECT_EQ(slurp(scratch.path("a.png")), slurp(scratch.path("b.png")));
  EXPECT_EQ(plans_in(scratch).size(), 4U);
}

TEST(Plans, ConcurrentProcessesShareTheCache) {
  const Scratch scratch;
  std::vector<std::thread> threads;
  std::vector<Outcome> outcomes(3);
  std::vector<std::unique_ptr<Scratch>> folders;
  for (size_t i = 0; i < outcomes.size(); ++i) folders.push_back(std::make_unique<Scratch>());
  for (size_t i = 0; i < outcomes.size(); ++i) {
    threads.emplace_back([&, i] {
      outcomes[i] = folders[i]->run(
          kTiny + Words{"a cat", "-o", "a.png", "--cache-dir", scratch.path("shared").string()});
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < outcomes.size(); ++i) {
    EXPECT_EQ(outcomes[i].exit_code, 0) << outcomes[i].err;
    EXPECT_EQ(slurp(folders[i]->path("a.png")), slurp(folders[0]->path("a.png")));
  }
}

TEST(Plans, ExplicitPlanMustFit) {
  const Scratch scratch;
  const Outcome built =
      scratch.run({"build", "-m", golden("tiny-sdxl"), "--size", "64x48", "--precision", "fp32",
                   "--threads", "2", "--component", "unet", "--save", "unet.plan"});
  ASSERT_EQ(built.exit_code, 0) << built.err;
  EXPECT_EQ(built.out, "unet.plan\n");
  const Outcome fits = scratch.run(kTiny + Words{"--plan", "unet.plan", "a cat", "-o", "a.png"});
  EXPECT_EQ(fits.exit_code, 0) << fits.err;
  Words larger = kTiny;
  *std::find(larger.begin(), larger.end(), "64x48") = "96x96";
  const Outcome refused = scratch.run(larger + Words{"--plan", "unet.plan", "a cat"});
  EXPECT_EQ(refused.exit_code, 6) << refused.err;
  EXPECT_TRUE(contains(refused.err, "halftone build")) << refused.err;
  const Outcome shown = scratch.run({"inspect", "unet.plan", "-v"});
  EXPECT_EQ(shown.exit_code, 0);
  for (const char* part : {"encoder_hidden_states", "stage prompt", "stage schedule", "stage step",
                           "fingerprint", "arena"}) {
    EXPECT_TRUE(contains(shown.out, part)) << part;
  }
  const Outcome json = scratch.run({"inspect", "unet.plan", "--json"});
  const Json document = parse_json(json.out, "stdout");
  EXPECT_EQ(JsonView(document, "stdout").at("kind").string(), "plan");
  EXPECT_TRUE(contains(json.out, "\"refused\":["));
}

// What build --save wrote is taken, whatever the files' names, and nothing is built beside it.
TEST(Plans, AFolderOfPlansMustHoldThemAll) {
  const Scratch scratch;
  const Words base = {"-m", "emoji-xl", "--size", "64x64", "--threads", "2"};
  const Words draw = Words{"generate", "a cat", "--steps", "1", "--seed", "1", "-o"};
  ASSERT_EQ(scratch.run(Words{"build", "--save", "plans"} + base).exit_code, 0);
  const Outcome shown = scratch.run({"inspect", "plans", "--json"});
  ASSERT_EQ(shown.exit_code, 0) << shown.err;
  const Json document = parse_json(shown.out, "stdout");
  EXPECT_EQ(JsonView(document, "stdout").at("kind").string(), "plans");
  EXPECT_EQ(JsonView(document, "stdout").at("plans").items().size(), 4U);
  EXPECT_TRUE(contains(scratch.run({"inspect", "plans"}).out, "vae_decoder"));
  const Outcome layers = scratch.run({"inspect", "plans", "--layers"});
  EXPECT_EQ(layers.exit_code, 2) << layers.err;
  EXPECT_TRUE(contains(layers.err, "unet.plan: a plan of unet that computes in")) << layers.err;
  const auto names = [&](const char* folder) {
    Words found;
    for (const auto& entry : fs::directory_iterator(scratch.path(folder))) {
      found.push_back(entry.path().filename().string());
    }
    std::ranges::sort(found);
    return found;
  };
  const Words saved = names("plans");
  EXPECT_EQ(saved,
            (Words{"text_encoder.plan", "text_encoder_2.plan", "unet.plan", "vae_decoder.plan"}));
  ASSERT_EQ(scratch.run(draw + Words{"a.png"} + base).exit_code, 0);
  const auto taken = [&](const char* folder, const char* picture) {
    const Outcome got = scratch.run(draw + Words{picture, "--json", "--plan", folder} + base);
    EXPECT_EQ(got.exit_code, 0) << got.err;
    const Json json = parse_json(got.out, "stdout");
    for (const JsonView& plan : JsonView(json, "stdout").at("plans").items()) {
      EXPECT_EQ(plan.at("origin").string(), "file") << plan.at("component").string();
    }
    EXPECT_EQ(slurp(scratch.path(picture)), slurp(scratch.path("a.png")));
  };
  taken("plans", "b.png");
  EXPECT_EQ(names("plans"), saved);
  ASSERT_EQ(scratch.run(draw + Words{"c.png", "--engine-dir", "engines"} + base).exit_code, 0);
  taken("engines", "d.png");
  // With plans of two precisions each component's own are found, whichever come first.
  for (const char* precision : {"fp32", "bf16"}) {
    const Words chosen = {"--precision", precision};
    ASSERT_EQ(
        scratch.run(draw + Words{"e.png", "--engine-dir", "engines"} + base + chosen).exit_code, 0);
  }
  const Outcome both = scratch.run({"inspect", "engines", "--layers"});
  EXPECT_TRUE(contains(both.err, "engines: holds several plans of the unet; name one")) << both.err;
  for (const char* precision : {"fp32", "bf16"}) {
    const Words chosen = {"f.png", "--plan", "engines", "--precision", precision};
    const Outcome got = scratch.run(draw + chosen + base);
    EXPECT_EQ(got.exit_code, 0) << got.err;
  }

  const auto refused = [&](const Words& words, const char* message) {
    const Outcome got = scratch.run(draw + Words{"x.png"} + base + words);
    EXPECT_EQ(got.exit_code, 6) << message << ": " << got.err;
    EXPECT_TRUE(contains(got.err, message)) << got.err;
  };
  fs::create_directory(scratch.path("empty"));
  refused({"--plan", "empty"}, "empty: holds no plan of the unet");
  EXPECT_TRUE(names("empty").empty());
  refused({"--plan", "plans", "--precision", "fp32"}, "asked for fp32");
  refused({"--plan", "plans", "--vae-precision", "fp32"}, "vae_decoder.plan: built for precision");
  refused({"--plan", "plans", "--cfg-scale", "1"}, "this size");
  for (const char* plan : {"plans", "plans/unet.plan"}) {
    refused({"--plan", plan, "--disable-pass", "fuse_epilogue"}, "with the pass fuse_epilogue");
    refused({"--plan", plan, "--disable-kernel", "cpu.*"}, "without --disable-kernel cpu.*");
  }
  const Words without = {"--disable-pass", "fuse_epilogue"};
  ASSERT_EQ(
      scratch
          .run(Words{"build", "--component", "unet", "--save", "plans/unet.plan"} + base + without)
          .exit_code,
      0);
  refused(Words{"--plan", "plans"} + without, "text_encoder.plan: was built with the pass");
  ASSERT_EQ(scratch.run(Words{"build", "--component", "unet", "--save", "plans/unet.plan"} + base)
                .exit_code,
            0);
  fs::remove(scratch.path("plans/vae_decoder.plan"));
  refused({"--plan", "plans"}, "plans: holds no plan of vae_decoder");
  const Words fp32 = {"--precision", "fp32", "--component", "unet", "--save", "plans/other.plan"};
  ASSERT_EQ(scratch.run(Words{"build"} + fp32 + base).exit_code, 0);
  const Outcome either = scratch.run(draw + Words{"x.png", "--plan", "plans"} + base);
  EXPECT_EQ(either.exit_code, 2) << either.err;
  EXPECT_TRUE(contains(either.err, "holds plans of the unet in fp32 and in")) << either.err;
  EXPECT_FALSE(fs::exists(scratch.path("x.png")));
}

// --- other verbs

TEST(Verbs, ModelsAreVerifiedAndRemoved) {
  const Scratch scratch;
  fs::create_directories(scratch.path("m"));
  fs::copy(golden("tiny-sdxl"), scratch.path("m/tiny"), fs::copy_options::recursive);
  const fs::path snapshot = scratch.path("hub/models--org--tiny/snapshots/0123abcd");
  const fs::path blobs = scratch.path("hub/models--org--tiny/blobs");
  fs::create_directories(snapshot.parent_path());
  fs::create_directories(blobs);
  fs::copy(golden("tiny-sdxl"), snapshot, fs::copy_options::recursive);
  fs::create_directories(scratch.path("hub/models--org--tiny/refs"));
  std::ofstream(scratch.path("hub/models--org--tiny/refs/main")) << "0123abcd";
  const auto models = [&](std::vector<std::string> words) {
    words.insert(words.begin(), "models");
    words.insert(words.end(), {"--models-dir", "m"});
    return scratch.run(words, "", {{"HF_HUB_CACHE", scratch.path("hub").string()}});
  };
  const Outcome good = models({"verify", "tiny", "--json"});
  ASSERT_EQ(good.exit_code, 0) << good.err;
  const Json document = parse_json(good.out, "stdout");
  const JsonView view(document, "stdout");
  EXPECT_TRUE(view.at("passed").boolean());
  const JsonView unet = view.at("files").items().at(2);
  EXPECT_TRUE(contains(unet.at("path").string(), "unet/")) << unet.at("path").string();

  // The hub's client names large files by their SHA-256.
  const fs::path file = snapshot / unet.at("path").string();
  const fs::path blob = blobs / unet.at("sha256").string();
  fs::rename(file, blob);
  fs::create_symlink(blob, file);
  EXPECT_EQ(models({"verify", "org/tiny"}).exit_code, 0);
  {
    std::fstream damaged(blob, std::ios::binary | std::ios::in | std::ios::out);
    damaged.seekp(-1, std::ios::end);
    damaged.put('\1');
  }
  const Outcome bad = models({"verify", "org/tiny"});
  EXPECT_EQ(bad.exit_code, 3) << bad.err;
  EXPECT_TRUE(contains(bad.out, "wanted " + unet.at("sha256").string())) << bad.out;
  fs::resize_file(blob, 100);
  EXPECT_EQ(models({"verify", "org/tiny"}).exit_code, 3);

  const Outcome asked = models({"rm", "org/tiny"});
  EXPECT_EQ(asked.exit_code, 2);
  EXPECT_TRUE(contains(asked.err, "give --yes")) << asked.err;
  EXPECT_TRUE(fs::exists(blob));
  EXPECT_EQ(models({"rm", "org/tiny", "--yes"}).exit_code, 0);
  EXPECT_FALSE(fs::exists(scratch.path("hub/models--org--tiny")));
  EXPECT_EQ(models({"rm", "org/tiny", "--yes"}).exit_code, 3);
  EXPECT_EQ(models({"rm", "../m", "--yes"}).exit_code, 2);
  EXPECT_EQ(models({"rm", scratch.path("m/tiny").string(), "--yes"}).exit_code, 2);
  EXPECT_TRUE(fs::exists(scratch.path("m/tiny/model_index.json")));
  EXPECT_EQ(models({"rm", "tiny", "--yes"}).exit_code, 0);
  EXPECT_FALSE(fs::exists(scratch.path("m/tiny")));
}

TEST(Verbs, ModelsDevicesCompletionBench) {
  const Scratch scratch;
  const Outcome random =
      scratch.run({"models", "random", "--family", "sdxl", "--tiny", "--out", "m/random-xl"});
  ASSERT_EQ(random.exit_code, 0) << random.err;
  const Outcome list = scratch.run({"models", "list", "--models-dir", "m"});
  EXPECT_TRUE(contains(list.out, "random-xl")) << list.out;
  EXPECT_TRUE(contains(list.out, "emoji-xl ")) << list.out;
  EXPECT_EQ(scratch.run({"models", "path", "m/random-xl"}).exit_code, 0);
  EXPECT_EQ(scratch.run({"models", "path", "nobody/nothing"}).exit_code, 3);
  EXPECT_TRUE(contains(scratch.run({"models", "show", "m/random-xl"}).out, "unet"));
  const Outcome devices = scratch.run({"devices", "--json"});
  EXPECT_EQ(devices.exit_code, 0);
  EXPECT_TRUE(contains(devices.out, "\"arch\""));
  for (const char* shell : {"bash", "zsh", "fish"}) {
    EXPECT_TRUE(contains(scratch.run({"completion", shell}).out, "generate")) << shell;
  }
  const Outcome bench = scratch.run({"bench", "e2e", "-m", golden("tiny-sdxl"), "--size", "64x64",
                                     "--steps", "2", "--precision", "fp32", "--iterations", "2"});
  EXPECT_EQ(bench.exit_code, 0) << bench.err;
  for (const char* part : {"Pipeline", "linear", "conv2d", "GFLOP/s", "p99", "image/s", "it/s",
                           "Build: cold", "warm"}) {
    EXPECT_TRUE(contains(bench.out, part)) << part;
  }
  const Outcome lines = scratch.run({"bench", "e2e", "-m", golden("tiny-sdxl"), "--size", "64x64",
                                     "--steps", "2", "--precision", "fp32", "--json"});
  EXPECT_EQ(lines.exit_code, 0) << lines.err;
  const Json row = parse_json(lines.out.substr(0, lines.out.find('\n')), "stdout");
  const JsonView first(row, "stdout");
  for (const char* key : {"median_ms", "p10_ms", "p90_ms", "p99_ms", "images_per_second",
                          "steps_per_second", "build_cold_ms", "build_warm_ms"}) {
    EXPECT_GT(first.at(key).number(), 0) << key;
  }
  for (const char* key : {"energy_j_per_image", "power_w", "power_limit_w", "sm_clock_mhz"}) {
    EXPECT_EQ(row.find(key), nullptr) << key;  // a CPU does not tell
  }
  EXPECT_FALSE(contains(bench.out, "Power:"));
  EXPECT_EQ(first.at("precision").string(), "fp32");
  const std::vector<std::string> libraries = first.at("libraries").strings();
  EXPECT_TRUE(std::ranges::any_of(libraries, [](const auto& l) { return contains(l, "oneDNN"); }));
}

}  // namespace
}  // namespace halftone::cli_test
