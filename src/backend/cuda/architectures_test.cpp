#include "backend/cuda/architectures.h"

#include <gtest/gtest.h>

namespace halftone::backend::cuda {
namespace {

TEST(Architectures, AnEntryServesItsOwnAndWhatTheDriverCanTranslateFor) {
  struct Row {
    const char* built;
    int major, minor;
    bool wanted;
  };
  const Row rows[] = {
      {"90a", 9, 0, true},      {"90a", 10, 0, false},      {"90a", 8, 0, false},
      {"80", 8, 0, true},       {"80", 8, 6, true},         {"80", 9, 0, true},
      {"80", 7, 5, false},      {"86", 8, 0, false},        {"80-real", 8, 9, true},
      {"80-real", 9, 0, false}, {"80-virtual", 9, 0, true}, {"120", 12, 0, true},
      {"120", 12, 1, true},     {"120", 10, 0, false},      {"100f", 10, 3, false},
      {"80;90a", 8, 9, true},   {"80;90a", 12, 0, true},    {"80-real;90a", 12, 0, false},
      {"", 9, 0, false},        {"native", 9, 0, false},
  };
  for (const Row& row : rows) {
    EXPECT_EQ(has_code_for(row.built, row.major, row.minor), row.wanted)
        << row.built << " on " << row.major << "." << row.minor;
  }
}

TEST(Architectures, TheFatBinaryServesEveryNamedOne) {
  constexpr const char* kFat = "80,86,89,90a,100,120";
  const int wanted[][2] = {{8, 0}, {8, 6}, {8, 9}, {9, 0}, {10, 0}, {10, 3}, {12, 0}, {12, 1}};
  for (const auto& capability : wanted) {
    EXPECT_TRUE(has_code_for(kFat, capability[0], capability[1]))
        << capability[0] << "." << capability[1];
  }
  EXPECT_FALSE(has_code_for(kFat, 7, 5));
  EXPECT_FALSE(built_architectures().empty());
}

TEST(Architectures, AreShownByTheirCommonNames) {
  EXPECT_EQ(readable_architectures("80;90a-real;120-virtual"), "sm_80, sm_90a, sm_120");
  EXPECT_EQ(readable_architectures("80,90a-real,120-virtual"), "sm_80, sm_90a, sm_120");
  EXPECT_EQ(readable_architectures(""), "");
  ASSERT_EQ(build_versions().size(), 2U);
  EXPECT_TRUE(build_versions()[0].starts_with("CUDA 1"));
  EXPECT_TRUE(build_versions()[1].starts_with("GPU code: sm_"));
}

}  // namespace
}  // namespace halftone::backend::cuda
