// Damaged recipes, records, bit tables and lists given to the program: exit code 3, a message that
// names file and key, and nothing written.
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "process.h"

namespace halftone::cli_test {
namespace {

namespace fs = std::filesystem;

class QuantizationInputs : public ::testing::Test {
 protected:
  std::string file(const std::string& name, const std::string& text) {
    std::ofstream(scratch_.folder() / name) << text;
    return (scratch_.folder() / name).string();
  }

  // `halftone quantize` with these words fails and leaves nothing behind.
  void expect_refused(std::vector<std::string> words, const std::string& wanted) {
    SCOPED_TRACE(wanted);
    const std::string output = (scratch_.folder() / "out.json").string();
    std::vector<std::string> all{"quantize", "-m",  golden("tiny-sdxl"), "--threads", "2",
                                 "--output", output};
    all.insert(all.end(), words.begin(), words.end());
    const Outcome got = scratch_.run(all);
    EXPECT_EQ(got.exit_code, 3) << got.err;
    EXPECT_TRUE(contains(got.err, wanted)) << got.err;
    for (const fs::directory_entry& entry : fs::directory_iterator(scratch_.folder())) {
      EXPECT_FALSE(entry.path().filename().string().starts_with("out")) << entry.path();
    }
  }

  const Scratch scratch_;
};

TEST_F(QuantizationInputs, ExitWith3AndWriteNothing) {
  const std::string recipe = file("r.json", R"({"halftone_recipe":1,"scheme":"x","rule":[]})");
  expect_refused({"--recipe", recipe}, "did you mean 'rules'?");
  expect_refused({"--recipe", file("cut.json", R"({"halftone_recipe":1,)")},
                 "cut.json: invalid JSON");
  expect_refused({"--precision", "int8", "--ranges", file("record.safetensors", "short")},
                 "record.safetensors");
  expect_refused({"--weight-bits", file("w.yaml", "conv_in: 8\nconv_in: 4\n")},
                 "w.yaml: line 2: 'conv_in' comes twice");
  expect_refused({"--precision", "int8", "--quant-layers", file("l.json", R"({"a":{"ssim":9}})")},
                 "wanted -1 to 1");
}

TEST_F(QuantizationInputs, TornDumpsExitWith3) {
  const std::vector<std::string> common = {"-m",   golden("tiny-sdxl"), "--cache-dir",
                                           "none", "--threads",         "2"};
  const auto run = [&](std::vector<std::string> words) {
    words.insert(words.end(), common.begin(), common.end());
    return scratch_.run(words);
  };
  ASSERT_EQ(run({"calibrate", "--dump", "d", "--ranges", "a.rec", "--calib-size", "1", "--n-steps",
                 "2", "--size", "64x48", "a cat"})
                .exit_code,
            0);
  EXPECT_EQ(run({"calibrate", "--from-dump", "d", "--ranges", "b.rec"}).exit_code, 0);
  const Outcome decided =
      run({"calibrate", "--from-dump", "d", "--ranges", "c.rec", "--steps", "4"});
  EXPECT_EQ(decided.exit_code, 2);
  EXPECT_TRUE(contains(decided.err, "the dump decides --steps")) << decided.err;
  fs::resize_file(scratch_.path("d/prompt-00000.safetensors"), 3000);
  const Outcome torn = run({"calibrate", "--from-dump", "d", "--ranges", "c.rec"});
  EXPECT_EQ(torn.exit_code, 3);
  EXPECT_TRUE(contains(torn.err, "prompt-00000.safetensors: ")) << torn.err;
  EXPECT_TRUE(contains(torn.err, "data ends at ")) << torn.err;
  EXPECT_FALSE(fs::exists(scratch_.path("c.rec")));
}

}  // namespace
}  // namespace halftone::cli_test
