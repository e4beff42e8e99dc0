#include "backend/tuning_cache.h"

#include <filesystem>

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
