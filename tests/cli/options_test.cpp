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
