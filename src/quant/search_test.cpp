// The knapsack against every combination, and against GLPK where it is installed.
#include "quant/search.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/folder.h"

namespace halftone::quant {
namespace {

using Classes = std::vector<std::vector<Option>>;

// Layers of MixDQ's kind: sizes over four orders of magnitude, 2, 4 and 8 bits, dB that grow with
// the bits but for noise.
Classes layers(unsigned seed, size_t count) {
  std::mt19937 random(seed);
  Classes classes;
  for (size_t i = 0; i < count; ++i) {
    const auto size = static_cast<int64_t>(1) + static_cast<int64_t>(random() % 1000);
    const double base = static_cast<double>(random() % 100) / 10.0;
    std::vector<Option> options;
    for (const int64_t bits : {2, 4, 8}) {
      options.push_back({size * bits, base + 5.0 * std::log2(static_cast<double>(bits)) +
                                          static_cast<double>(random() % 60) / 10.0 - 3.0});
    }
    classes.push_back(std::move(options));
  }
  return classes;
}

std::optional<double> brute_force(const Classes& classes, int64_t most, int64_t least) {
  std::optional<double> best;
  std::vector<size_t> choice(classes.size(), 0);
  for (;;) {
    int64_t cost = 0;
    double value = 0;
    for (size_t c = 0; c < classes.size(); ++c) {
      cost += classes[c][choice[c]].cost;
      value += classes[c][choice[c]].value;
    }
    if (cost <= most && cost >= least && (!best || value > *best)) best = value;
    size_t c = 0;
    while (c < classes.size() && ++choice[c] == classes[c].size()) choice[c++] = 0;
    if (c == classes.size()) return best;
  }
}

int64_t total(const Classes& classes, size_t option) {
  int64_t cost = 0;
  for (const auto& options : classes) cost += options[option].cost;
  return cost;
}

TEST(SelectOptions, EqualsEveryCombination) {
  for (unsigned seed = 0; seed < 60; ++seed) {
    const Classes classes = layers(seed, 1 + seed % 9);
    const int64_t low = total(classes, 0);
    const int64_t high = total(classes, 2);
    for (int share = -1; share <= 5; ++share) {
      const int64_t most = low + (high - low) * share / 4;
      for (const int64_t least : {int64_t{0}, most - (high - low) / 20, most}) {
        const auto wanted = brute_force(classes, most, least);
        const auto got = select_options(classes, most, least);
        ASSERT_EQ(got.has_value(), wanted.has_value()) << seed << " " << share << " " << least;
        if (!got) continue;
        EXPECT_NEAR(got->value, *wanted, 1e-9) << seed << " " << share << " " << least;
        EXPECT_LE(got->cost, most);
        EXPECT_GE(got->cost, least);
        ASSERT_EQ(got->chosen.size(), classes.size());
      }
    }
  }
}

TEST(SelectOptions, HundredsOfLayersAreQuick) {
  const Classes classes = layers(7, 794);
  const int64_t eight = total(classes, 2);
  for (const int64_t tenths_of_bits : {35, 40, 50, 60, 78}) {
    const int64_t most = eight / 80 * tenths_of_bits;
    const auto got = select_options(classes, most, most - most / 100);
    ASSERT_TRUE(got);
    EXPECT_GE(got->cost, most - most / 100);
  }
}

TEST(SelectOptions, WorkedExample) {
  // 10 bits for two layers of one weight each: (2, 8) gives 1 + 9, (8, 2) 7 + 2, (4, 4) 5 + 4.
  const Classes classes{{{2, 1}, {4, 5}, {8, 7}}, {{2, 2}, {4, 4}, {8, 9}}};
  const auto got = select_options(classes, 10);
  ASSERT_TRUE(got);
  EXPECT_EQ(got->chosen, (std::vector<size_t>{0, 2}));
  EXPECT_EQ(got->value, 10.0);
  EXPECT_FALSE(select_options(classes, 3));
  EXPECT_EQ(select_options(classes, 100)->value, 16.0);
}

TEST(ParetoHull, IsMonotoneAndNeverBeaten) {
  const Classes classes = layers(3, 8);
  const auto hull = pareto_hull(classes);
  ASSERT_GT(hull.size(), 3U);
  for (size_t i = 0; i < hull.size(); ++i) {
    if (i > 0) {
      EXPECT_GT(hull[i].cost, hull[i - 1].cost);
      EXPECT_GT(hull[i].value, hull[i - 1].value);
    }
    EXPECT_NEAR(brute_force(classes, hull[i].cost, 0).value(), hull[i].value, 1e-9);
  }
}

// The same program for glpsol (Debian: glpk-utils); costs and values have few digits.
TEST(SelectOptions, EqualsGlpk) {
  if (std::system("command -v glpsol > /dev/null 2>&1") != 0) {
    GTEST_SKIP() << "glpsol (glpk-utils) is not installed";
  }
  const TemporaryFolder temporary;
  const std::filesystem::path& folder = temporary.path();
  for (unsigned seed = 100; seed < 104; ++seed) {
    const Classes classes = layers(seed, 60);
    const int64_t most = total(classes, 2) / 2;
    const int64_t least = most - most / 50;
    std::ofstream lp(folder / "bits.lp");
    lp << "Maximize\n obj:";
    std::string cost, one, binaries;
    for (size_t c = 0; c < classes.size(); ++c) {
      for (size_t i = 0; i < classes[c].size(); ++i) {
        lp << fmt::format(" + {:.4f} x{}_{}", classes[c][i].value, c, i);
        cost += fmt::format(" + {} x{}_{}", classes[c][i].cost, c, i);
        one += fmt::format("{} x{}_{}", i == 0 ? fmt::format(" c{}:", c) : " +", c, i);
        binaries += fmt::format(" x{}_{}\n", c, i);
      }
      one += " = 1\n";
    }
    lp << fmt::format("\nSubject To\n most:{} <= {}\n least:{} >= {}\n{}Binary\n{}End\n", cost,
                      most, cost, least, one, binaries);
    lp.close();
    const std::string command = fmt::format(
        "cd '{}' && timeout 60 glpsol --lp bits.lp -o bits.sol > /dev/null", folder.string());
    ASSERT_EQ(std::system(command.c_str()), 0);
    std::ifstream solution(folder / "bits.sol");
    double objective = NAN;
    for (std::string line; std::getline(solution, line);) {
      if (line.rfind("Objective:", 0) == 0) objective = std::stod(line.substr(line.find('=') + 1));
    }
    const auto got = select_options(classes, most, least);
    ASSERT_TRUE(got);
    EXPECT_NEAR(got->value, objective, 2e-3);
  }
}

}  // namespace
}  // namespace halftone::quant
