#include "backend/cpu/simd/panels.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "backend/cpu/cpu_features.h"

namespace halftone::backend::cpu {
namespace {

constexpr int64_t kTaps = 3, kTapSteps = 2, kSteps = kTaps * kTapSteps;

std::vector<int8_t> codes(int64_t count, uint32_t seed) {
  std::vector<int8_t> values(static_cast<size_t>(count));
  for (int8_t& value : values) {
    seed = seed * 1664525U + 1013904223U;
    value = static_cast<int8_t>(seed >> 24U);
  }
  return values;
}

// Two tiles of three taps: rows one after the other, rows twice as far apart, and one row for all.
class PanelsTest : public testing::Test {
 protected:
  static constexpr int64_t kRowBytes = kTapSteps * kStepBytes;

  [[nodiscard]] LeftTap tap(int64_t tile, int64_t index) const {
    const auto* from = reinterpret_cast<const std::byte*>(left_.data());
    const std::array<LeftTap, kTaps> taps = {LeftTap{from + tile * 16 * kRowBytes, kRowBytes},
                                             LeftTap{from + (tile + 1) * kRowBytes, 2 * kRowBytes},
                                             LeftTap{from + 5 * kRowBytes, 0}};
    return taps[static_cast<size_t>(index)];
  }
  [[nodiscard]] int32_t expected(int64_t row, int64_t col) const {
    int32_t sum = 0;
    for (int64_t step = 0; step < kSteps; ++step) {
      const LeftTap from = tap(row / kPanelRows, step / kTapSteps);
      const auto* a = reinterpret_cast<const int8_t*>(from.rows) +
                      row % kPanelRows * from.row_bytes + step % kTapSteps * kStepBytes;
      const int8_t* b = panel_.data() + (col / 16 * kSteps + step) * kPanelTileBytes + col % 16 * 4;
      for (int64_t i = 0; i < kStepBytes; ++i) sum += a[i] * b[i / 4 * 64 + i % 4];
    }
    return sum;
  }
  // Products of one or two tiles equal plain sums, and every piece of other work is done once.
  void check(const PanelOps& ops) const {
    for (const PanelOps::Multiply multiply : ops.multiply_i8) {
      if (multiply != nullptr) check(ops, multiply);
    }
  }
  void check(const PanelOps& ops, PanelOps::Multiply multiply) const {
    for (const int64_t tiles : {1, 2}) {
      std::array<LeftTap, kTaps> taps[2];
      for (int64_t i = 0; i < 2 * kTaps; ++i) {
        taps[i / kTaps][static_cast<size_t>(i % kTaps)] = tap(i / kTaps, i % kTaps);
      }
      const LeftTiles left{
          {taps[0].data(), tiles == 2 ? taps[1].data() : nullptr}, kTaps, kTapSteps};
      for (const int64_t pieces : {0, 1, 5, 17}) {
        alignas(64) int32_t sums[kPanelSums] = {};
        int64_t done = 0;
        PanelWork work;
        work.run = [](void* context) { ++*static_cast<int64_t*>(context); };
        work.context = &done;
        work.pieces = pieces;
        ops.begin();
        multiply(left, reinterpret_cast<const std::byte*>(panel_.data()), sums, work);
        ops.end();
        EXPECT_EQ(done, pieces);
        for (int64_t row = 0; row < tiles * kPanelRows; ++row) {
          for (int64_t col = 0; col < kPanelCols; ++col) {
            ASSERT_EQ(sums[row * kPanelCols + col], expected(row, col)) << row << ' ' << col;
          }
        }
      }
    }
  }

  static bool has(const std::string& feature) {
    static const std::vector<std::string> kPresent = detect_features({});
    return std::ranges::find(kPresent, feature) != kPresent.end();
  }

  std::vector<int8_t> left_ = codes(64 * kRowBytes, 1);
  std::vector<int8_t> panel_ = codes(2 * kSteps * kPanelTileBytes, 2);
};

TEST_F(PanelsTest, Avx2) {
  if (!has("avx2")) GTEST_SKIP();
  check(panel_ops_avx2());
}

TEST_F(PanelsTest, Vnni) {
  if (!has("avx512_vnni")) GTEST_SKIP();
  check(panel_ops_vnni());
}

TEST_F(PanelsTest, LoopsOfAmxOnTilesInMemory) {
  if (!has("avx512_vnni")) GTEST_SKIP();
  check(panel_ops_emulated());
}

TEST_F(PanelsTest, Amx) {
  if (!has("amx_int8") || !has("amx_bf16")) GTEST_SKIP();
  check(panel_ops_amx());
}

}  // namespace
}  // namespace halftone::backend::cpu
