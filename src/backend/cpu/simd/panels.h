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

// Where a tile of 16 left rows lies for one tap: rows are row_bytes apart, 0 when all are the same;
// steps follow each other every 64 bytes.
struct LeftTap {
  const std::byte* rows;
  int64_t row_bytes;
};

// One or two tiles of left rows.
struct LeftTiles {
  const LeftTap* tiles[2];  // the taps of each; the second may be null
  int64_t taps;
  int64_t tap_steps;

  [[nodiscard]] int64_t steps() const { return taps * tap_steps; }
};

// What a thread does besides during a product: vector units work while tiles multiply, and memory
// delivers what comes next.
struct PanelWork {
  void (*run)(void* context) = nullptr;  // the next piece
  void* context = nullptr;
  int64_t pieces = 0;                // a product calls run so often
  const std::byte* ahead = nullptr;  // read soon
  int64_t ahead_lines = 0;           // of 64 bytes, a step
};

// Which operand passes the first level cache by, so that the other one stays there.
enum class Passing : uint8_t { kNone, kLeft, kPanel };
inline constexpr int kPassings = 3;

// Products of one thread stand between begin() and end().
struct PanelOps {
  using Multiply = void (*)(const LeftTiles& left, const std::byte* panel, void* sums,
                            const PanelWork& work);
  void (*begin)();
  void (*end)();
  // sums[row][32], rows of the second tile after those of the first; int32 or f32.
  // By Passing: results are equal, and those after the first are null where the first is all.
  Multiply multiply_i8[kPassings];
  Multiply multiply_bf16[kPassings];  // null where there is no code for it
};

// The best code for the device's features; where they claim more than this processor has, slower
// code with equal results, for tests. Null without AVX2.
[[nodiscard]] const PanelOps* panel_ops(const DeviceInfo& info);

[[nodiscard]] const PanelOps& panel_ops_avx2();
[[nodiscard]] const PanelOps& panel_ops_vnni();
[[nodiscard]] const PanelOps& panel_ops_amx();
// The loops of AMX on tile registers in memory. Needs VNNI.
[[nodiscard]] const PanelOps& panel_ops_emulated();

}  // namespace halftone::backend::cpu
