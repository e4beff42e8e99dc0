// What the system does to the command: full disks, folders that cannot be made, kills, torn files.
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include <gtest/gtest.h>
#include <sys/types.h>

#include "process.h"

namespace halftone::cli_test {
namespace {

namespace fs = std::filesystem;

// The verbs on `model`, each writing to `target` in its own manner.
std::vector<Words> verbs_writing_to(const std::string& model, const std::string& target) {
  const Words common = {"-m", model, "--size", "64x48"};
  std::vector<Words> verbs = {
      {"generate", "a cat", "--steps", "2", "--precision", "fp32", "-o", target + ".png"},
      {"build", "--precision", "fp32", "--save", target + "-plans"},
      {"calibrate", "--steps", "2", "--calib-size", "2", "--prompts-file", "prompts.txt",
       "--ranges", target + ".safetensors"},
      {"quantize", "--quant-type", "int8_weightonly", "-o", target + ".json"},
      {"compare", "--steps", "1", "--prompts-file", "prompts.txt", "--a", "fp32", "--b", "bf16",
       "--output", target + "-report"}};
  for (Words& verb : verbs) verb.insert(verb.end(), common.begin(), common.end());
  return verbs;
}

void write_prompts(const Scratch& scratch) {
  std::ofstream(scratch.path("prompts.txt")) << "a cat\na dog\n";
}

// Files of ours that a run may leave when it ends early: only whole ones.
void expect_no_temporary_files(const Scratch& scratch) {
  for (const auto& entry : fs::recursive_directory_iterator(scratch.folder())) {
    EXPECT_FALSE(contains(entry.path().filename().string(), ".tmp-")) << entry.path();
  }
}

TEST(Faults, AFullDiskLeavesNothingHalfWritten) {
  const Scratch scratch;
  write_prompts(scratch);
  for (const Words& verb : verbs_writing_to(golden("tiny-sdxl"), "out")) {
    SCOPED_TRACE(verb.front());
    const Outcome got = scratch.run_limited(verb, {.file_bytes = 2000});
    EXPECT_EQ(got.exit_code, 1) << got.err;
    EXPECT_TRUE(contains(got.err, "cannot write")) << got.err;
    expect_no_temporary_files(scratch);
  }
  for (const char* file : {"out.png", "out.safetensors", "out-report/report.html"}) {
    EXPECT_FALSE(fs::exists(scratch.path(file))) << file;
  }
}

TEST(Faults, TextThatAFullDiskCutsIsAnError) {
  const Scratch scratch;
  const Outcome got = scratch.run_limited({"devices"}, {.file_bytes = 100});
  EXPECT_EQ(got.exit_code, 1);
  EXPECT_TRUE(contains(got.err, "stdout: cannot be written")) << got.err;
}

// The cache is a convenience: without room for it pictures are drawn all the same.
TEST(Faults, ACacheThatIsFullOrCannotBeMadeIsDoneWithout) {
  const Words generate = {"generate",    "a cat", "-m",      golden("tiny-sdxl"),
                          "--size",      "64x48", "--steps", "2",
                          "--precision", "fp32",  "--seed",  "1",
                          "-o",          "a.png"};
  const Scratch whole, full, unmade;
  ASSERT_EQ(whole.run(generate).exit_code, 0);
  const Outcome without_room = full.run_limited(generate, {.file_bytes = 16384});
  EXPECT_EQ(without_room.exit_code, 0) << without_room.err;
  EXPECT_TRUE(contains(without_room.err, "plan not kept")) << without_room.err;
  expect_no_temporary_files(full);
  Words elsewhere = generate;
  elsewhere.insert(elsewhere.end(), {"--cache-dir", "/proc/halftone"});
  const Outcome nowhere = unmade.run(elsewhere);
  EXPECT_EQ(nowhere.exit_code, 0) << nowhere.err;
  for (const Scratch* scratch : {&full, &unmade}) {
    EXPECT_EQ(slurp(scratch->path("a.png")), slurp(whole.path("a.png")));
  }
}

TEST(Faults, FoldersThatCannotBeMadeAreNamed) {
  const Scratch scratch;
  write_prompts(scratch);
  for (const Words& verb : verbs_writing_to(golden("tiny-sdxl"), "/proc/halftone/out")) {
    SCOPED_TRACE(verb.front());
    const Outcome got = scratch.run(verb);
    EXPECT_TRUE(got.exit_code == 1 || got.exit_code == 2) << got.exit_code << got.err;
    EXPECT_TRUE(contains(got.err, "/proc/halftone")) << got.err;
    EXPECT_FALSE(contains(got.err, "filesystem error")) << got.err;
  }
}

TEST(Faults, ATruncatedDownloadIsNamedByEveryVerb) {
  const Scratch scratch;
  write_prompts(scratch);
  const fs::path model = scratch.path("model");
  fs::copy(golden("tiny-sdxl"), model, fs::copy_options::recursive);
  const fs::path weights = model / "unet" / "diffusion_pytorch_model.safetensors";
  fs::resize_file(weights, fs::file_size(weights) / 2);
  for (const Words& verb : verbs_writing_to(model.string(), "out")) {
    SCOPED_TRACE(verb.front());
    const Outcome got = scratch.run(verb);
    EXPECT_EQ(got.exit_code, 3) << got.err;
    EXPECT_TRUE(contains(got.err, "diffusion_pytorch_model.safetensors")) << got.err;
    expect_no_temporary_files(scratch);
  }
}

// Killed at any moment of making and keeping plans; the next run finds a usable cache.
TEST(Faults, KilledBuildersLeaveAUsableCache) {
  const Scratch scratch;
  const Words build = {"build",       "-m",  golden("tiny-sdxl"), "--size", "64x48",
                       "--precision", "fp32"};
  for (int i = 0; i < 8; ++i) {
    const Outcome got = scratch.run_with(build, [&](pid_t process, const fs::path&) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20 + 25 * i));
      ::kill(process, SIGKILL);
    });
    EXPECT_TRUE(got.exit_code == 0 || got.exit_code == 1000 + SIGKILL) << got.exit_code << got.err;
  }
  const Outcome after = scratch.run(build);
  EXPECT_EQ(after.exit_code, 0) << after.err;
  EXPECT_FALSE(contains(after.err, "corrupt")) << after.err;
  const Outcome again = scratch.run(build);
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_FALSE(contains(again.err, "built")) << again.err;
}

}  // namespace
}  // namespace halftone::cli_test
