#include "runtime/constant_cache.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "base/folder.h"

namespace halftone::runtime {
namespace {

namespace fs = std::filesystem;

class ConstantCacheTest : public testing::Test {
 protected:
  static std::vector<std::byte> bytes(size_t count, int first) {
    std::vector<std::byte> result(count);
    for (size_t i = 0; i < count; ++i)
      result[i] = static_cast<std::byte>(first + static_cast<int>(i));
    return result;
  }
  void write() {
    ConstantCache cache(file_, "weights 1");
    cache.add("a", bytes(100, 1));
    cache.add("b", bytes(7, 5));
    cache.commit();
  }
  // The constant as the file has it; empty when it has none.
  std::vector<std::byte> read(const std::string& identity, const std::string& key, size_t count) {
    ConstantCache cache(file_, identity,
                        [this](LogLevel, std::string_view, std::string_view) { ++warnings_; });
    std::vector<std::byte> result(count);
    if (!cache.holds(key, count) || !cache.read(key, result)) return {};
    return result;
  }
  void damage(std::streamoff at) {
    std::fstream file(file_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(at);
    const int old = file.get();
    file.seekp(at);
    file.put(static_cast<char>(old ^ 1));
  }

  TemporaryFolder temporary_;
  fs::path folder_ = temporary_.path() / "weights";  // made by the first commit
  fs::path file_ = folder_ / "unet.constants";
  int warnings_ = 0;
};

TEST_F(ConstantCacheTest, GivesBackWhatWasAdded) {
  write();
  EXPECT_EQ(read("weights 1", "a", 100), bytes(100, 1));
  EXPECT_EQ(read("weights 1", "b", 7), bytes(7, 5));
  EXPECT_TRUE(read("weights 1", "c", 7).empty());
  EXPECT_TRUE(read("weights 1", "a", 99).empty());
  EXPECT_EQ(warnings_, 0);
}

TEST_F(ConstantCacheTest, ANewFileAppearsOnlyWhenItIsCommitted) {
  {
    ConstantCache cache(file_, "weights 1");
    cache.add("a", bytes(10, 1));
  }
  EXPECT_FALSE(fs::exists(file_));
}

TEST_F(ConstantCacheTest, OtherWeightsReplaceTheFile) {
  write();
  {
    ConstantCache cache(file_, "weights 2");
    EXPECT_FALSE(cache.holds("a", 100));
    cache.add("a", bytes(100, 9));
    cache.commit();
  }
  EXPECT_EQ(read("weights 2", "a", 100), bytes(100, 9));
  EXPECT_TRUE(read("weights 1", "a", 100).empty());
}

TEST_F(ConstantCacheTest, DamageIsFoundAndSaid) {
  write();
  damage(64 + 10);  // in "a"
  EXPECT_TRUE(read("weights 1", "a", 100).empty());
  EXPECT_EQ(warnings_, 1);
  EXPECT_EQ(read("weights 1", "b", 7), bytes(7, 5));
  for (const std::streamoff at : {0, 20, 40, 64 + 128 + 64 + 3}) {  // header, table
    fs::remove(file_);
    write();
    damage(at);
    warnings_ = 0;
    EXPECT_TRUE(read("weights 1", "a", 100).empty()) << at;
    EXPECT_EQ(warnings_, 1) << at;
  }
  fs::resize_file(file_, 30);
  EXPECT_TRUE(read("weights 1", "a", 100).empty());
}

TEST_F(ConstantCacheTest, WithoutAPlaceNothingIsKeptAndNothingFails) {
  int warnings = 0;
  ConstantCache cache("/proc/none/unet.constants", "weights 1",
                      [&](LogLevel, std::string_view, std::string_view) { ++warnings; });
  cache.add("a", bytes(10, 1));
  cache.commit();
  EXPECT_FALSE(cache.holds("a", 10));
  EXPECT_EQ(warnings, 1);
}

}  // namespace
}  // namespace halftone::runtime
