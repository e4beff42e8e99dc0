// Compiled with AMX. Everything here has internal linkage, so that no inline function compiled for
// it can be chosen by the linker for the rest of the program.
#include <immintrin.h>

#include "backend/cpu/simd/panels.h"

namespace halftone::backend::cpu {
namespace {

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);

void begin() {
  static constexpr TileConfig kConfig;
  _tile_loadconfig(&kConfig);
}

void end() { _tile_release(); }

// Tile registers are literals of the instruction.
#define HALFTONE_DOT(sum, left, right) \
  if constexpr (kInteger) {            \
    _tile_dpbssd(sum, left, right);    \
  } else {                             \
    _tile_dpbf16ps(sum, left, right);  \
  }

// Registers 0 to 3 sum [tile][block], 4 and 5 are left tiles, 6 and 7 the panel's blocks.
template <int kTiles, bool kInteger>
void multiply(const LeftTiles& left, const std::byte* panel, int64_t steps, void* sums) {
  _tile_zero(0);
  _tile_zero(1);
  if constexpr (kTiles > 1) {
    _tile_zero(2);
    _tile_zero(3);
  }
  const std::byte* second = panel + steps * kPanelTileBytes;
  const int64_t row_bytes = left.row_bytes;
  for (int64_t j = 0; j < steps; ++j, panel += kPanelTileBytes, second += kPanelTileBytes) {
    const int64_t offset = left.offsets[j];
    _tile_loadd(6, panel, kStepBytes);
    _tile_loadd(4, left.tiles[0] + offset, row_bytes);
    HALFTONE_DOT(0, 4, 6);
    _tile_loadd(7, second, kStepBytes);
    HALFTONE_DOT(1, 4, 7);
    if constexpr (kTiles > 1) {
      _tile_loadd(5, left.tiles[1] + offset, row_bytes);
      HALFTONE_DOT(2, 5, 6);
      HALFTONE_DOT(3, 5, 7);
    }
  }
  constexpr int64_t kRowBytes = kPanelCols * 4;
  auto* to = static_cast<std::byte*>(sums);
  _tile_stored(0, to, kRowBytes);
  _tile_stored(1, to + kStepBytes, kRowBytes);
  if constexpr (kTiles > 1) {
    to += kPanelRows * kRowBytes;
    _tile_stored(2, to, kRowBytes);
    _tile_stored(3, to + kStepBytes, kRowBytes);
  }
}

#undef HALFTONE_DOT

template <bool kInteger>
void multiply_tiles(const LeftTiles& left, const std::byte* panel, int64_t steps, void* sums) {
  if (left.tiles[1] == nullptr) {
    multiply<1, kInteger>(left, panel, steps, sums);
  } else {
    multiply<2, kInteger>(left, panel, steps, sums);
  }
}

constexpr PanelOps kOps{begin, end, multiply_tiles<true>, multiply_tiles<false>};

}  // namespace

const PanelOps& panel_ops_amx() { return kOps; }

}  // namespace halftone::backend::cpu
