// Several generators at once in one process: they share the plan cache, the hashes of files and the
// libraries, nothing else. Also run under TSan (scripts/sanitize.sh tsan).
#include <atomic>
#include <filesystem>
#include <thread>

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "backend/cpu/cpu_device.h"
#include "base/folder.h"
#include "workflow/generator.h"

namespace halftone::workflow {
namespace {

class ThreadsTest : public ::testing::Test {
 protected:
  // Draws one picture with a device and a generator of its own; empty when cancelled.
  std::vector<uint8_t> draw(uint64_t seed, ProgressCallback progress = {}) const {
    const auto device = backend::cpu::create_cpu_device({.threads = 1, .disabled_features = {}});
    SessionOptions session;
    session.model.model = std::string(HALFTONE_SOURCE_DIR) + "/tests/golden/tiny-sdxl";
    session.precision = Precision::kF32;
    session.cache_dir = folder_.string();
    session.progress = std::move(progress);
    Generator generator(*device, std::move(session));
    GenerateOptions request;
    request.prompt = "a cat";
    request.width = 64;
    request.height = 48;
    request.steps = 3;
    request.seed = seed;
    std::vector<uint8_t> pixels;
    try {
      generator.generate(request, [&](Image&& image) { pixels = std::move(image.rgb); });
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::kCancelled) << error.what();
    }
    return pixels;
  }

  TemporaryFolder temporary_;
  std::filesystem::path folder_ = temporary_.path();
};

TEST_F(ThreadsTest, TwoPipelinesBuildAndShareTheSamePlans) {
  std::vector<std::vector<uint8_t>> pictures(3);
  std::vector<std::thread> threads;
  for (std::vector<uint8_t>& picture : pictures) {
    threads.emplace_back([&] { picture = draw(7); });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_FALSE(pictures[0].empty());
  EXPECT_EQ(pictures[1], pictures[0]);
  EXPECT_EQ(pictures[2], pictures[0]);
}

TEST_F(ThreadsTest, AnotherThreadCancelsOneOfTwo) {
  const std::vector<uint8_t> whole = draw(7);
  std::atomic<bool> is_denoising = false, stop = false;
  std::vector<uint8_t> cancelled, other;
  std::thread first([&] {
    cancelled = draw(7, [&](const Progress& progress) {
      if (progress.stage != "denoise") return true;
      is_denoising = true;
      while (!stop) std::this_thread::yield();
      return false;
    });
  });
  std::thread second([&] { other = draw(7); });
  while (!is_denoising) std::this_thread::yield();
  stop = true;
  first.join();
  second.join();
  EXPECT_TRUE(cancelled.empty());
  EXPECT_EQ(other, whole);
}

}  // namespace
}  // namespace halftone::workflow
