// Products of rows with panels of 32 columns: int8, summed exactly in int32, and bf16, summed in
// f32.
//
// A step is 64 bytes of a left row: 64 int8 or 32 bf16. A panel holds two blocks of 16 columns;
// step j of block b is a tile of 1024 bytes at (b * steps + j) * 1024, [16][16 columns][4 bytes]:
// row g of a tile is what bytes 4g to 4g + 3 of the left row's step multiply.
#pragma once

#include <cstddef>
#include <cstdint>

namespace halftone::backend {
struct DeviceInfo;
}

namespace halftone::backend::cpu {

inline constexpr int64_t kPanelCols = 32;
inline constexpr int64_t kPanelRows = 16;  // of a tile of left rows
inline constexpr int64_t kStepBytes = 64;
inline constexpr int64_t kPanelTileBytes = 1024;
inline constexpr int64_t kPanelSums = 2 * kPanelRows * kPanelCols;  // 32-bit sums of a product

// One or two tiles of 16 left rows. Step j of row r of tile t is at tiles[t] + r * row_bytes +
// offsets[j].
struct LeftTiles {
  const std::byte* tiles[2];  // the second may be null
  int64_t row_bytes;
  const int64_t* offsets;
};

// Products of one thread stand between begin() and end().
struct PanelOps {
  void (*begin)();
  void (*end)();
  // sums[row][32], rows of the second tile after those of the first; int32 or f32.
  void (*multiply_i8)(const LeftTiles& left, const std::byte* panel, int64_t steps, void* sums);
  // Null where there is no code for it.
  void (*multiply_bf16)(const LeftTiles& left, const std::byte* panel, int64_t steps, void* sums);
};

// The best code for the device's features; where they claim more than this processor has, slower
// code with equal results, for tests. Null without AVX2.
[[nodiscard]] const PanelOps* panel_ops(const DeviceInfo& info);

[[nodiscard]] const PanelOps& panel_ops_avx2();
[[nodiscard]] const PanelOps& panel_ops_vnni();
[[nodiscard]] const PanelOps& panel_ops_amx();

}  // namespace halftone::backend::cpu
