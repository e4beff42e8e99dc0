#include "backend/cpu/tuning.h"

#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "base/folder.h"

namespace halftone::backend::cpu {
namespace {

class TuningTest : public testing::Test {
 protected:
  void TearDown() override { open_tuning(""); }

  // The candidate that `fastest` takes when `quick` is, by a clock that only the runs move, and how
  // many runs it wanted.
  int choose(const std::string& key, int quick) {
    runs_ = 0;
    double now = 0;
    return fastest(
        key, 3,
        [&](int candidate) {
          ++runs_;
          now += candidate == quick ? 0.001 : 0.030;
        },
        [&] { return now; });
  }

  TemporaryFolder temporary_;
  std::string file_ = (temporary_.path() / "cpu.txt").string();
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

TEST_F(TuningTest, AStallOfTheMachineDoesNotDecide) {
  open_tuning(file_);
  double now = 0;
  int runs = 0;
  const int choice = fastest(
      "one", 3,
      [&](int candidate) {
        // The first run of candidate 1 is held up.
        now += candidate != 1 ? 0.002 : runs++ == 0 ? 1.0 : 0.001;
      },
      [&] { return now; });
  EXPECT_EQ(choice, 1);
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
