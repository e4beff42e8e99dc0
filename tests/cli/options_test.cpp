// Options that contradict each other are refused; what has no effect is warned of, once.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

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

TEST_F(Options, InspectNamesWhatItIsGiven) {
  std::ofstream(scratch_.path("r.json")) << R"({"halftone_recipe": 1})";
  std::ofstream(scratch_.path("t.txt")) << "some text";
  refused({"inspect", "r.json"}, "'halftone inspect --layers r.json'", 3);
  refused({"inspect", "t.txt"}, "is no plan, PNG picture", 3);
  refused({"inspect", "--layers", "t.txt"}, "has no layers");
  refused({"inspect", golden("tiny-sdxl"), "--exclude", "ff"}, "--exclude: needs --layers");
}

}  // namespace
}  // namespace halftone::cli_test
