#include "backend/cpu/tuning.h"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include <gtest/gtest.h>

namespace halftone::backend::cpu {
namespace {

class TuningTest : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::remove(file_); }
  void TearDown() override {
    std::filesystem::remove(file_);
    open_tuning("");
  }

  // The candidate that `fastest` takes when `quick` is, and how many runs it wanted.
  int choose(const std::string& key, int quick) {
    runs_ = 0;
    return fastest(key, 3, [&](int candidate) {
      ++runs_;
      std::this_thread::sleep_for(std::chrono::milliseconds(candidate == quick ? 1 : 30));
    });
  }

  std::string file_ = testing::TempDir() + "/halftone_tuning_test.txt";
  int runs_ = 0;
};

TEST_F(TuningTest, TheFastestIsKeptInTheFile) {
  open_tuning(file_);
  EXPECT_EQ(choose("one", 2), 2);
  EXPECT_GT(runs_, 3);
  save_tuning();
  open_tuning("");
  EXPECT_EQ(choose("one", 0), 0) << "what another file says is forgotten";
  open_tuning(file_);
  EXPECT_EQ(choose("one", 0), 2);
  EXPECT_EQ(runs_, 0) << "a known choice is not measured";
}

TEST_F(TuningTest, ForeignLinesAreMeasuredAnew) {
  std::ofstream(file_) << "one\tlibrary\ntwo\t7\nthree\t-1\nfour\t1x\nno tab\n";
  open_tuning(file_);
  for (const char* key : {"one", "two", "three", "four"}) {
    EXPECT_EQ(choose(key, 1), 1) << key;
    EXPECT_GT(runs_, 3) << key;
  }
}

}  // namespace
}  // namespace halftone::backend::cpu
