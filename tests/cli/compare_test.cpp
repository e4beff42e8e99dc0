// compare and calibrate as a user runs them.
#include <algorithm>
#include <csignal>
#include <fstream>

#include <gtest/gtest.h>
#include <unistd.h>

#include "io/image.h"
#include "metrics/pattern.h"
#include "process.h"

namespace halftone::cli_test {
namespace {

namespace fs = std::filesystem;

const Words kTiny = {"-m", golden("tiny-sdxl"), "--size", "64x48",      "--steps", "2", "--seed",
                     "7",  "--threads",         "2",      "--progress", "none"};

void write_prompts(const fs::path& file, const Words& prompts) {
  std::ofstream out(file);
  for (const std::string& prompt : prompts) out << prompt << '\n';
}

Json parsed(const Outcome& outcome) { return parse_json(outcome.out, "stdout"); }

double number(const Json& json, const std::string& object, const std::string& key) {
  return JsonView(json, "stdout").at(object).at(key).number();
}

// Start tags of a page in order, with every attribute checked to be quoted and every element
// closed.
std::vector<std::string> checked_elements(const std::string& html) {
  const std::vector<std::string> empty = {"meta", "img", "br", "line", "rect", "polyline"};
  std::vector<std::string> open, seen;
  for (size_t at = html.find('<'); at != std::string::npos; at = html.find('<', at + 1)) {
    const size_t end = html.find('>', at);
    EXPECT_NE(end, std::string::npos);
    if (end == std::string::npos) break;
    std::string tag = html.substr(at + 1, end - at - 1);
    if (tag.starts_with("!")) continue;
    const bool closes = tag.starts_with("/");
    const std::string name =
        tag.substr(closes ? 1 : 0, tag.find_first_of(" /", 1) - (closes ? 1 : 0));
    if (closes) {
      EXPECT_FALSE(open.empty()) << tag;
      if (open.empty()) break;
      EXPECT_EQ(open.back(), name) << html.substr(at > 80 ? at - 80 : 0, 160);
      open.pop_back();
      continue;
    }
    EXPECT_EQ(std::count(tag.begin(), tag.end(), '"') % 2, 0) << tag.substr(0, 200);
    seen.push_back(name);
    const bool is_empty = std::find(empty.begin(), empty.end(), name) != empty.end();
    if (!is_empty ||
        (!tag.ends_with("/") && (name == "line" || name == "rect" || name == "polyline"))) {
      open.push_back(name);
    }
  }
  EXPECT_TRUE(open.empty()) << (open.empty() ? "" : open.back());
  return seen;
}

TEST(Compare, TwoPrecisionsGiveFiguresPicturesAndOnePage) {
  const Scratch scratch;
  write_prompts(scratch.path("prompts.txt"),
                {"a <b>cat</b> & \"dog\"", "a house", "  ", "it's red"});
  const Outcome got = scratch.run(Words{"compare"} + kTiny +
                                  Words{"--prompts-file", "prompts.txt", "--a", "fp32", "--b",
                                        "bf16", "--output", "out", "--json"});
  ASSERT_EQ(got.exit_code, 0) << got.err;
  const Json json = parsed(got);
  EXPECT_GT(number(json, "psnr", "mean"), 20);
  EXPECT_LE(number(json, "psnr", "min"), number(json, "psnr", "mean"));
  EXPECT_GT(number(json, "latent_sqnr", "mean"), 20);
  const JsonView view(json, "stdout");
  EXPECT_EQ(view.at("schema").string(), "halftone.compare/v1");
  ASSERT_EQ(view.at("prompts").items().size(), 3U);
  double sum = 0;
  for (const JsonView& prompt : view.at("prompts").items()) sum += prompt.at("psnr").number();
  EXPECT_NEAR(sum / 3, number(json, "psnr", "mean"), 1e-9);
  EXPECT_EQ(view.at("prompts").items()[2].at("seed").integer(), 9);
  EXPECT_EQ(view.at("step_sqnr_median").items().size(), 2U);
  EXPECT_FALSE(view.has("ms_ssim"));  // 64x48 is too small for five scales

  const io::PngImage picture = io::read_png(scratch.path("out/b/001.png"));
  EXPECT_EQ(picture.image.width, 64);
  const std::string html = slurp(scratch.path("out/report.html"));
  const auto elements = checked_elements(html);
  EXPECT_EQ(std::count(elements.begin(), elements.end(), "img"), 9);
  EXPECT_TRUE(contains(html, "a &lt;b&gt;cat&lt;/b&gt; &amp; &quot;dog&quot;"));
  EXPECT_FALSE(contains(html, "<b>cat"));
  EXPECT_FALSE(contains(html, "http://"));
  EXPECT_FALSE(contains(html, "https://"));
  EXPECT_FALSE(contains(html, "<script"));
  EXPECT_TRUE(contains(html, "UNet alone"));
}

TEST(Compare, PicturesMadeElsewhereAndGates) {
  const Scratch scratch;
  write_prompts(scratch.path("prompts.txt"), {"a cat", "a house"});
  const Words prompts = {"--prompts-file", "prompts.txt"};
  ASSERT_EQ(scratch
                .run(Words{"generate"} + kTiny + prompts +
                     Words{"--precision", "fp32", "-o", "ref_%d.png", "--output-dir", "ref"})
                .exit_code,
            0);
  const Words compare = Words{"compare"} + kTiny + prompts + Words{"--output", "out", "--json"};
  const Outcome same = scratch.run(
      compare + Words{"--a", "ref", "--b", "fp32", "--min-psnr", "99", "--min-ssim", "1"});
  ASSERT_EQ(same.exit_code, 0) << same.err;
  EXPECT_EQ(number(parsed(same), "psnr", "mean"), 100);
  EXPECT_EQ(number(parsed(same), "ssim", "mean"), 1);
  const Outcome missed =
      scratch.run(compare + Words{"--a", "ref", "--b", "bf16", "--min-psnr", "99.5"});
  EXPECT_EQ(missed.exit_code, 7) << missed.err;
  EXPECT_TRUE(contains(missed.err, "missed")) << missed.err;
  EXPECT_TRUE(contains(slurp(scratch.path("out/report.html")), "missed: mean PSNR"));
}

// Two prompts and two folders with a picture each, and a CLIP model's folder.
void write_pictures(const Scratch& scratch) {
  write_prompts(scratch.path("prompts.txt"), {"a photo of a cat", "snow"});
  const auto save = [&](const std::string& name, int width, int height, int noise, uint32_t seed) {
    metrics::Picture picture = metrics::make_pattern(width, height, noise, seed);
    io::write_png(scratch.path(name), {width, height, std::move(picture.rgb)});
  };
  fs::create_directory(scratch.path("one"));
  fs::create_directory(scratch.path("two"));
  save("one/0.png", 64, 48, 12, 1);
  save("one/1.png", 300, 299, 5, 7);
  save("two/0.png", 64, 48, 60, 2);
  save("two/1.png", 300, 299, 5, 7);
}

const Words kFolders = {
    "compare", "--prompts-file", "prompts.txt", "--a",    "one", "--b",
    "two",     "--output",       "out",         "--json", "-m",  golden("tiny-sdxl")};

TEST(Compare, ClipScoreOfBothSides) {
  const Scratch scratch;
  write_pictures(scratch);
  fs::create_directory(scratch.path("clip"));
  for (const char* name : {"config.json", "model.safetensors", "preprocessor_config.json"}) {
    fs::copy_file(golden("clip-score") + "/" + name, scratch.path("clip") / name);
  }
  const Outcome plain = scratch.run(kFolders);
  ASSERT_EQ(plain.exit_code, 0) << plain.err;
  EXPECT_FALSE(contains(plain.out, "clip_score"));

  const Outcome bare = scratch.run(kFolders + Words{"--clip-model", "clip"});
  EXPECT_EQ(bare.exit_code, 3);
  EXPECT_TRUE(contains(bare.err, "vocab.json")) << bare.err;
  for (const char* name : {"vocab.json", "merges.txt"}) {
    fs::copy_file(golden("tokenizer/small") + "/" + name, scratch.path("clip") / name);
  }
  const Outcome got = scratch.run(kFolders + Words{"--clip-model", "clip"});
  ASSERT_EQ(got.exit_code, 0) << got.err;
  const Json json = parsed(got);
  const JsonView clip = JsonView(json, "stdout").at("clip_score");
  // tests/golden/clip-score/golden.json has the scores of the first side's pictures.
  EXPECT_NEAR(clip.at("a").at("mean").number(), (29.980793 + 36.558792) / 2, 1e-3);
  const double difference = clip.at("difference").at("mean").number();
  EXPECT_NEAR(difference, clip.at("b").at("mean").number() - clip.at("a").at("mean").number(),
              1e-9);
  EXPECT_NE(difference, 0);
  const std::vector<JsonView> rows = JsonView(json, "stdout").at("prompts").items();
  EXPECT_EQ(rows[1].at("clip_score_a").number(), rows[1].at("clip_score_b").number());
  const std::string html = slurp(scratch.path("out/report.html"));
  (void)checked_elements(html);
  EXPECT_TRUE(contains(html, "CLIP score A"));
  Words table = kFolders;
  std::erase(table, "--json");
  const Outcome text = scratch.run(table + Words{"--clip-model", "clip"});
  EXPECT_TRUE(contains(text.out, "| CLIP, B - A")) << text.out;
}

TEST(Compare, LpipsOfTheTwoSides) {
  const Scratch scratch;
  write_pictures(scratch);
  const Words network = {"--lpips", golden("lpips") + "/alexnet.pth"};
  const Outcome bare = scratch.run(kFolders + network);
  EXPECT_EQ(bare.exit_code, 3);
  EXPECT_TRUE(contains(bare.err, "lin0.model.1.weight")) << bare.err;
  const Words both = network + Words{"--lpips", golden("lpips") + "/alex.pth"};
  const Outcome got = scratch.run(kFolders + both);
  ASSERT_EQ(got.exit_code, 0) << got.err;
  const Json json = parsed(got);
  const JsonView view(json, "stdout");
  EXPECT_EQ(view.at("lpips_network").string(), "alex");
  const std::vector<JsonView> rows = view.at("prompts").items();
  EXPECT_GT(rows[0].at("lpips").number(), 0);
  EXPECT_EQ(rows[1].at("lpips").number(), 0);  // equal pictures
  EXPECT_NEAR(view.at("lpips").at("mean").number(), rows[0].at("lpips").number() / 2, 1e-9);
  const std::string html = slurp(scratch.path("out/report.html"));
  (void)checked_elements(html);
  EXPECT_TRUE(contains(html, "<th>LPIPS</th>"));
  EXPECT_TRUE(contains(html, "LPIPS (alex), mean"));
  Words table = kFolders;
  std::erase(table, "--json");
  const Outcome text = scratch.run(table + Words{"--lpips", golden("lpips") + "/vgg.safetensors"});
  EXPECT_TRUE(contains(text.out, "| LPIPS ")) << text.out << text.err;
  EXPECT_TRUE(contains(text.out, "dB  LPIPS ")) << text.out;
}

TEST(Compare, WhatMeansNothingIsRefused) {
  const Scratch scratch;
  write_prompts(scratch.path("prompts.txt"), {"a cat"});
  fs::create_directory(scratch.path("empty"));
  const Words compare = Words{"compare"} + kTiny + Words{"--prompts-file", "prompts.txt"};
  const Outcome unknown = scratch.run(compare + Words{"--b", "int3"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_TRUE(contains(unknown.err, "got 'int3'")) << unknown.err;
  const Outcome empty = scratch.run(compare + Words{"--b", "empty"});
  EXPECT_EQ(empty.exit_code, 2);
  EXPECT_TRUE(contains(empty.err, "holds 0 PNG pictures, wanted 1")) << empty.err;
  const Outcome place = scratch.run(compare + Words{"--b", "bf16", "--output", "prompts.txt"});
  EXPECT_EQ(place.exit_code, 1);
  EXPECT_TRUE(contains(place.err, "prompts.txt: cannot make the folder")) << place.err;
  EXPECT_EQ(scratch.run(compare).exit_code, 2);
  EXPECT_EQ(scratch.run(Words{"compare"} + kTiny + Words{"--b", "bf16"}).exit_code, 2);
  const Outcome latent =
      scratch.run(compare + Words{"--b", "bf16", "--output-type", "latent", "-o", "report"});
  EXPECT_EQ(latent.exit_code, 2);
  EXPECT_TRUE(contains(latent.err, "compares pictures")) << latent.err;
  EXPECT_FALSE(fs::exists(scratch.path("report")));
}

// Before the first side is drawn.
TEST(Compare, TheSecondSideIsCheckedAtFirst) {
  const Scratch scratch;
  write_prompts(scratch.path("prompts.txt"), {"a cat"});
  const Words compare = {"compare", "-m", golden("tiny-sdxl"), "--prompts-file", "prompts.txt",
                         "--steps", "1",  "--progress",        "plain",          "--a",
                         "fp32",    "--b"};
  const Words build = {"build",       "-m",   golden("tiny-sdxl"), "--size", "64x48",
                       "--precision", "fp32", "--component",       "unet",   "--save",
                       "unet.plan"};
  ASSERT_EQ(scratch.run(build).exit_code, 0);
  const Outcome fits = scratch.run(compare + Words{"unet.plan", "--size", "64x48"});
  EXPECT_EQ(fits.exit_code, 0) << fits.err;
  EXPECT_TRUE(contains(fits.err, "denoise")) << fits.err;
  const Outcome other = scratch.run(compare + Words{"unet.plan", "--size", "96x96"});
  EXPECT_EQ(other.exit_code, 6) << other.err;
  EXPECT_FALSE(contains(other.err, "denoise")) << other.err;
  // Nor is the first side calibrated.
  Words int8 = compare;
  *std::ranges::find(int8, "fp32") = "int8";
  *std::ranges::find(int8, golden("tiny-sdxl")) = "emoji-xl";
  const Outcome calibrated = scratch.run(int8 + Words{"unet.plan", "--cache-dir", "cache"});
  EXPECT_EQ(calibrated.exit_code, 6) << calibrated.err;
  EXPECT_FALSE(fs::exists(scratch.path("cache/calibration")));
  const Outcome bare = scratch.run(compare + Words{"int8", "--size", "64x48"});  // without a record
  EXPECT_EQ(bare.exit_code, 3) << bare.err;
  EXPECT_FALSE(contains(bare.err, "denoise")) << bare.err;
}

// Stopped or failed, it leaves an older comparison as it was, and no picture of its own.
TEST(Compare, KeepsNothingOfARunThatDoesNotEnd) {
  const Scratch scratch;
  write_prompts(scratch.path("prompts.txt"), {"a cat", "a house"});
  const auto files = [&] {
    Words found;
    for (const auto& entry : fs::recursive_directory_iterator(scratch.path("out"))) {
      found.push_back(entry.path().lexically_relative(scratch.folder()).string());
    }
    std::ranges::sort(found);
    return found;
  };
  const Words compare = {"compare",        "-m",          golden("tiny-sdxl"),
                         "--prompts-file", "prompts.txt", "--a",
                         "fp32",           "--output",    "out"};
  const Words small = {"--size", "64x48", "--steps", "1"};
  const Outcome failed = scratch.run(compare + small + Words{"--b", "int8"});  // without a record
  EXPECT_EQ(failed.exit_code, 3) << failed.err;
  EXPECT_FALSE(fs::exists(scratch.path("out")));
  ASSERT_EQ(scratch.run(compare + small + Words{"--b", "bf16"}).exit_code, 0);
  const Words whole = files();
  EXPECT_EQ(whole, (Words{"out/a", "out/a/000.png", "out/a/001.png", "out/b", "out/b/000.png",
                          "out/b/001.png", "out/report.html"}));
  const std::string first = slurp(scratch.path("out/a/000.png"));
  const Words large = {"--size", "256x256", "--steps", "100", "--b", "bf16", "--progress", "json"};
  const Outcome stopped =
      scratch.run_with(compare + large, [&](pid_t process, const fs::path& err) {
        for (int i = 0; i < 3000 && !contains(slurp(err), "\"image\":1"); ++i) usleep(10000);
        kill(process, SIGINT);
      });
  EXPECT_EQ(stopped.exit_code, 130) << stopped.err;
  EXPECT_EQ(files(), whole);
  EXPECT_EQ(slurp(scratch.path("out/a/000.png")), first);
}

TEST(Calibrate, ResumedRecordEqualsOneMadeAtOnce) {
  const Scratch scratch;
  write_prompts(scratch.path("prompts.txt"), {"a cat", "a house", "the sea", "two birds", "snow"});
  const Words calibrate = Words{"calibrate"} + kTiny +
                          Words{"--prompts-file", "prompts.txt", "--precision", "fp32", "--json"};
  const Outcome once =
      scratch.run(calibrate + Words{"--calib-size", "5", "--ranges", "once.safetensors"});
  ASSERT_EQ(once.exit_code, 0) << once.err;
  ASSERT_EQ(scratch.run(calibrate + Words{"--calib-size", "2", "--ranges", "twice.safetensors"})
                .exit_code,
            0);
  const Outcome twice =
      scratch.run(calibrate + Words{"--calib-size", "5", "--ranges", "twice.safetensors"});
  ASSERT_EQ(twice.exit_code, 0) << twice.err;
  EXPECT_EQ(JsonView(parsed(twice), "stdout").at("resumed_samples").integer(), 2);
  EXPECT_EQ(JsonView(parsed(once), "stdout").at("hash").string(),
            JsonView(parsed(twice), "stdout").at("hash").string());
  EXPECT_EQ(slurp(scratch.path("once.safetensors")), slurp(scratch.path("twice.safetensors")));

  Words three = calibrate;
  const auto steps = std::ranges::find(three, "--steps");
  *steps = "--n-steps";
  *(steps + 1) = "3";
  const Outcome other =
      scratch.run(three + Words{"--calib-size", "5", "--ranges", "once.safetensors"});
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_TRUE(contains(other.err, "was made with steps '2', asked for '3'")) << other.err;
  const Outcome many =
      scratch.run(calibrate + Words{"--calib-size", "6", "--ranges", "once.safetensors"});
  EXPECT_EQ(many.exit_code, 2);
  EXPECT_TRUE(contains(many.err, "got 5 prompts, wanted 6")) << many.err;
}

TEST(Calibrate, KilledRunGoesOn) {
  const Scratch scratch;
  Words prompts;
  for (int i = 0; i < 200; ++i) prompts.push_back("a thing " + std::to_string(i));
  write_prompts(scratch.path("prompts.txt"), prompts);
  const Words calibrate =
      Words{"calibrate"} + kTiny + Words{"--prompts-file",     "prompts.txt", "--ranges",
                                         "r.safetensors",      "--precision", "fp32",
                                         "--calib-batch-size", "1",           "--json"};
  const Outcome killed = scratch.run_with(
      calibrate + Words{"--calib-size", "200"}, [&](pid_t process, const fs::path&) {
        for (int i = 0; i < 3000 && !fs::exists(scratch.path("r.safetensors")); ++i) usleep(10000);
        kill(process, SIGKILL);
      });
  EXPECT_NE(killed.exit_code, 0);
  ASSERT_TRUE(fs::exists(scratch.path("r.safetensors"))) << killed.err;
  const Outcome rest = scratch.run(calibrate + Words{"--calib-size", "1"});
  ASSERT_EQ(rest.exit_code, 0) << rest.err;
  EXPECT_GE(JsonView(parsed(rest), "stdout").at("resumed_samples").integer(), 1);
}

// A record that nobody asked for is used when it is whole: what was cut off has another name, and
// the next run goes on with it.
TEST(Calibrate, CutOffOnTheWayToAPictureIsNotTakenForWhole) {
  const Scratch scratch;
  fs::copy(golden("tiny-sdxl"), scratch.path("model"), fs::copy_options::recursive);
  fs::create_directory(scratch.path("model/prompts"));
  Words prompts;
  for (int i = 0; i < 40; ++i) prompts.push_back("a thing " + std::to_string(i));
  write_prompts(scratch.path("model/prompts/calibration.txt"), prompts);
  const Words draw = {"generate",    "a cat", "-m",        "model", "--size",       "64x48",
                      "--steps",     "2",     "--threads", "2",     "--precision",  "int8",
                      "--cache-dir", "cache", "-o",        "x.png", "--json=r.json"};
  const fs::path folder = scratch.path("cache/calibration");
  const auto records = [&](bool partial) {
    int found = 0;
    if (!fs::exists(folder)) return found;
    for (const auto& entry : fs::directory_iterator(folder)) {
      const std::string name = entry.path().filename().string();
      if (!name.ends_with(".safetensors") || name.starts_with(".")) continue;
      found += contains(name, ".partial.") == partial ? 1 : 0;
    }
    return found;
  };
  const Outcome killed = scratch.run_with(draw, [&](pid_t process, const fs::path&) {
    for (int i = 0; i < 3000 && records(true) == 0; ++i) usleep(1000);
    kill(process, SIGKILL);
  });
  EXPECT_NE(killed.exit_code, 0);
  EXPECT_EQ(records(true), 1) << killed.err;
  EXPECT_EQ(records(false), 0) << killed.err;
  const Outcome rest = scratch.run(draw);
  ASSERT_EQ(rest.exit_code, 0) << rest.err;
  EXPECT_EQ(records(true), 0);
  EXPECT_EQ(records(false), 1);
  EXPECT_TRUE(contains(slurp(scratch.path("r.json")), ".c32.")) << rest.err;
  // One that is damaged is made anew.
  fs::path whole;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".safetensors") whole = entry.path();
  }
  std::ofstream(folder / (whole.stem().string() + ".partial.safetensors")) << "cut off";
  fs::remove(whole);
  const Outcome anew = scratch.run(draw);
  EXPECT_EQ(anew.exit_code, 0) << anew.err;
  EXPECT_EQ(records(true), 0);
  EXPECT_EQ(records(false), 1);
}

}  // namespace
}  // namespace halftone::cli_test
