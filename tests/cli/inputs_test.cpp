// Values that mean nothing, and files that are not to be replaced.
#include <filesystem>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "process.h"

namespace halftone::cli_test {
namespace {

namespace fs = std::filesystem;

Words with(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

Words generate(const Words& more) {
  return with({"generate", "-m", golden("tiny-sdxl"), "--device", "cpu", "--precision", "fp32",
               "--steps", "1", "-s", "7"},
              more);
}

TEST(Inputs, ValuesThatMeanNothingAreRefused) {
  const Scratch scratch;
  const struct {
    Words more;
    const char* message;
  } kCases[] = {
      {{"a", "--size", "0x64"}, "--size: got 0, wanted 1 to 8192 pixels"},
      {{"a", "--size", "64x9000"}, "--size: got 9000"},
      {{"a", "-W", "0", "-H", "64"}, "--width: got 0"},
      {{"a", "-W", "64", "-H", "-64"}, "--height: got -64"},
      {{"a", "--size", "64x64", "-W", "64"}, "give one"},
      {{"a", "--memory-limit", "nan"}, "--memory-limit: got nan, wanted a number"},
      {{"a", "--cfg-scale", "NaN"}, "--cfg-scale: got NaN, wanted a number"},
      {{"a", "--config", "/dev/zero"}, "--config /dev/zero: longer than 1 MiB"},
      {{"a", "--config", "."}, "--config .: cannot be read"},
      {{"a", "b <lora:x:1>"}, "<lora:...>"},
      {{"a", "-n", "<lora:x:1>"}, "<lora:...>"},
      {{"a", "--prompt-2", "<lora:x:1>"}, "<lora:...>"},
      {{"--prompt-file", "."}, "--prompt-file .: cannot be read"},
      {{"a", "--dump-latents", "none/l.safetensors"}, "the folder none does not exist"},
      {{"a", "--save-report", "none/r.json"}, "the folder none does not exist"},
      {{"a", "--json=none/r.json"}, "the folder none does not exist"},
  };
  for (const auto& [more, message] : kCases) {
    const Outcome got = scratch.run(generate(more));
    EXPECT_EQ(got.exit_code, 2) << message;
    EXPECT_TRUE(contains(got.err, message)) << got.err;
  }
  EXPECT_FALSE(fs::exists(scratch.path("output.png")));
  // A search that is left out because its target means nothing would be another recipe.
  for (const char* bits : {"0", "-4", "nan"}) {
    const Outcome got = scratch.run({"quantize", "-m", golden("tiny-sdxl"), "--device", "cpu",
                                     "--target-bits", bits, "-o", "recipe.json"});
    EXPECT_EQ(got.exit_code, 2) << bits;
    EXPECT_TRUE(contains(got.err, "--target-bits: got ")) << got.err;
  }
  for (const Words& size : {Words{"-W", "-64"}, Words{"--size", "64x0"}}) {
    const Words build = {"build", "-m", golden("tiny-sdxl"), "--device", "cpu", "--dry-run"};
    EXPECT_EQ(scratch.run(with(build, size)).exit_code, 2) << size.front();
  }
}

TEST(Outputs, EveryPromptKeepsItsLatentsAndItsReport) {
  const Scratch scratch;
  const Words words = {"a",
                       "b",
                       "--size",
                       "64x64",
                       "-o",
                       "l.safetensors",
                       "--output-type",
                       "latent",
                       "--save-report",
                       "r.json"};
  const Outcome got = scratch.run(generate(words));
  ASSERT_EQ(got.exit_code, 0) << got.err;
  EXPECT_TRUE(fs::exists(scratch.path("l_1.safetensors")));
  EXPECT_TRUE(fs::exists(scratch.path("l_2.safetensors")));
  EXPECT_NE(slurp(scratch.path("l_1.safetensors")), slurp(scratch.path("l_2.safetensors")));
  const std::string reports = slurp(scratch.path("r.json"));
  EXPECT_TRUE(contains(reports, "\"prompt\":\"a\"")) << reports;
  EXPECT_TRUE(contains(reports, "\"prompt\":\"b\"")) << reports;
}

// A file renamed over /dev/null is a broken system.
TEST(Outputs, WhatIsNoFileStaysWhatItIs) {
  const Scratch scratch;
  const std::string fifo = scratch.path("fifo").string();
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  const int reader = ::open(fifo.c_str(), O_RDWR);  // a writer does not wait for this one
  EXPECT_EQ(scratch.run({"devices", "--json=fifo"}).exit_code, 0);
  EXPECT_TRUE(fs::is_fifo(fifo));
  std::string text(1 << 16, '\0');
  EXPECT_GT(::read(reader, text.data(), text.size()), 0);
  EXPECT_TRUE(contains(text, "halftone.devices")) << text.c_str();
  ::close(reader);

  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string name = scratch.path("socket").string();
  ASSERT_LT(name.size(), sizeof address.sun_path);
  name.copy(address.sun_path, sizeof address.sun_path - 1);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  for (const char* target : {"socket", "."}) {
    const Outcome got = scratch.run({"devices", std::string("--json=") + target});
    EXPECT_EQ(got.exit_code, 1) << target;
    EXPECT_TRUE(contains(got.err, "cannot be written")) << got.err;
  }
  EXPECT_TRUE(fs::is_socket(name));
  ::close(fd);
  const Outcome dump = scratch.run(generate({"a", "--size", "64x64", "--dump-latents", "fifo"}));
  EXPECT_EQ(dump.exit_code, 2) << dump.err;
  EXPECT_TRUE(contains(dump.err, "is a FIFO, wanted a regular file")) << dump.err;
  for (const auto& entry : fs::directory_iterator(scratch.folder())) {
    EXPECT_FALSE(contains(entry.path().filename().string(), ".tmp-")) << entry.path();
  }
}

}  // namespace
}  // namespace halftone::cli_test
