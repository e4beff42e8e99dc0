#include "backend/tuning_cache.h"

#include <filesystem>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "base/folder.h"

namespace halftone::backend {
namespace {

// Processes that measure at the same time and share the cache folder.
TEST(TuningCache, KeepsWhatOthersMeasuredMeanwhile) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder.path() / "tuning" / "cpu.txt";
  TuningCache first(path.string());
  TuningCache second(path.string());
  first.insert("a", "1");
  first.insert("both", "1");
  first.save();
  second.insert("b", "2");
  second.insert("both", "2");
  second.save();
  const TuningCache after(path.string());
  EXPECT_EQ(after.find("a"), "1");
  EXPECT_EQ(after.find("b"), "2");
  EXPECT_EQ(after.find("both"), "2");
  EXPECT_EQ(list_folder(path.parent_path()), std::vector<std::string>{"cpu.txt"});
}

// A program with new kernels measures them, though an older one has chosen.
TEST(TuningCache, ForgetsWhatOtherKernelsMeasured) {
  const TemporaryFolder folder;
  const std::string file = (folder.path() / "cuda.txt").string();
  TuningCache cache(file);
  cache.insert("a", "1");
  cache.save();
  std::string text = read_text_file(file);
  ASSERT_EQ(text, fmt::format("kernels {}\na\t1\n", kernels_hash()));
  text[text.find('\n') - 1] ^= 1;
  write_file_atomically(file, text);
  TuningCache other(file);
  EXPECT_EQ(other.find("a"), std::nullopt);
  other.insert("b", "2");
  other.save();
  EXPECT_EQ(read_text_file(file), fmt::format("kernels {}\nb\t2\n", kernels_hash()));
  write_file_atomically(file, "a\t1\n");  // of before there was such a line
  EXPECT_EQ(TuningCache(file).find("a"), std::nullopt);
}

TEST(TuningCache, DoesWithoutAFileThatCannotBeWritten) {
  const TemporaryFolder folder;
  TuningCache cache(folder.path().string());
  cache.insert("a", "1");
  cache.save();
  EXPECT_EQ(cache.find("a"), "1");
  EXPECT_TRUE(list_folder(folder.path()).empty());
}

}  // namespace
}  // namespace halftone::backend
