// Kernels and overlapping launches that are switched off by name.
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "process.h"

namespace halftone::cli_test {
namespace {

Outcome bench(const Scratch& scratch, const std::vector<std::string>& more) {
  std::vector<std::string> words = {"bench",       "e2e",  "-m",          golden("tiny-sdxl"),
                                    "--device",    "cpu",  "--size",      "64x64",
                                    "--steps",     "1",    "--precision", "fp32",
                                    "--cache-dir", "none", "--json"};
  words.insert(words.end(), more.begin(), more.end());
  return scratch.run(words);
}

TEST(DisableKernel, TheNextOfTheListServes) {
  const Scratch scratch;
  const Outcome all = bench(scratch, {"--iterations", "1"});
  EXPECT_EQ(all.exit_code, 0) << all.err;
  EXPECT_TRUE(contains(all.out, "\"cpu.group_norm.vector\""));
  EXPECT_FALSE(contains(all.out, "\"cpu.group_norm.reference\""));
  for (const char* name : {"cpu.group_norm.vector", "cpu.group_norm.v*"}) {
    const Outcome without = bench(scratch, {"--iterations", "1", "--disable-kernel", name});
    EXPECT_EQ(without.exit_code, 0) << without.err;
    EXPECT_FALSE(contains(without.out, "\"cpu.group_norm.vector\"")) << name;
    EXPECT_TRUE(contains(without.out, "\"cpu.group_norm.reference\"")) << name;
  }
}

TEST(DisableKernel, UnknownNamesAreRefused) {
  const Scratch scratch;
  const Outcome outcome = bench(scratch, {"--disable-kernel", "cpu.group_norm.vectors"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_TRUE(contains(outcome.err, "no kernel of cpu is named 'cpu.group_norm.vectors'"))
      << outcome.err;
}

// With plans in the cache too, where no pass runs.
TEST(DisablePass, UnknownNamesAreRefused) {
  const Scratch scratch;
  const auto build = [&](const std::string& pass) {
    std::vector<std::string> words = {
        "build",       "-m",          golden("tiny-sdxl"), "--device", "cpu",
        "--size",      "64x64",       "--precision",       "fp32",     "--component",
        "vae_decoder", "--cache-dir", "a cache",           "--json"};
    if (!pass.empty()) words.insert(words.end(), {"--disable-pass", pass});
    return scratch.run(words);
  };
  for (const char* origin : {"built", "cache"}) {
    const Outcome outcome = build("");
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_TRUE(contains(outcome.out, "\"" + std::string(origin) + "\"")) << outcome.out;
    const Outcome refused = build("fuse_epilog");
    EXPECT_EQ(refused.exit_code, 2) << refused.out;
    EXPECT_TRUE(contains(refused.err, "unknown pass 'fuse_epilog'; there are: ")) << refused.err;
    EXPECT_EQ(build("fuse_epilogue").exit_code, 0);
  }
}

// A processor has nothing to overlap: the switch is taken and changes nothing.
TEST(NoLaunchOverlap, IsTakenOnEveryDevice) {
  const Scratch scratch;
  EXPECT_EQ(bench(scratch, {"--iterations", "1", "--no-launch-overlap"}).exit_code, 0);
}

}  // namespace
}  // namespace halftone::cli_test
