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
#define HALFTONE_FOR_TILE(reg, what) \
  if constexpr ((reg) == 0)          \
    what(0);                         \
  else if constexpr ((reg) == 1)     \
    what(1);                         \
  else if constexpr ((reg) == 2)     \
    what(2);                         \
  else if constexpr ((reg) == 3)     \
    what(3);                         \
  else if constexpr ((reg) == 4)     \
    what(4);                         \
  else if constexpr ((reg) == 5)     \
    what(5);                         \
  else if constexpr ((reg) == 6)     \
    what(6);                         \
  else                               \
    what(7)
#define HALFTONE_DOT(sum, left, right)                   \
  if constexpr (kSum == (sum)) {                         \
    static_assert(kLeft == (left) && kRight == (right)); \
    if constexpr (kInteger) {                            \
      _tile_dpbssd(sum, left, right);                    \
    } else {                                             \
      _tile_dpbf16ps(sum, left, right);                  \
    }                                                    \
  }

struct Tiles {
  template <int kTile>
  void zero() {
    HALFTONE_FOR_TILE(kTile, _tile_zero);
  }
  template <int kTile, bool kPasses>
  void load(const std::byte* from, int64_t row_bytes) {
#define HALFTONE_LOAD(reg) _tile_loadd(reg, from, row_bytes)
#define HALFTONE_PASS(reg) _tile_stream_loadd(reg, from, row_bytes)
    if constexpr (kPasses) {
      HALFTONE_FOR_TILE(kTile, HALFTONE_PASS);
    } else {
      HALFTONE_FOR_TILE(kTile, HALFTONE_LOAD);
    }
#undef HALFTONE_PASS
#undef HALFTONE_LOAD
  }
  template <int kTile>
  void store(std::byte* to, int64_t row_bytes) {
#define HALFTONE_STORE(reg) _tile_stored(reg, to, row_bytes)
    HALFTONE_FOR_TILE(kTile, HALFTONE_STORE);
#undef HALFTONE_STORE
  }
  // The four products of multiply().
  template <bool kInteger, int kSum, int kLeft, int kRight>
  void dot() {
    HALFTONE_DOT(0, 4, 6);
    HALFTONE_DOT(1, 4, 7);
    HALFTONE_DOT(2, 5, 6);
    HALFTONE_DOT(3, 5, 7);
  }
};

#undef HALFTONE_DOT
#undef HALFTONE_FOR_TILE

#include "backend/cpu/simd/panels_tiles.inc"

constexpr PanelOps kOps{begin,
                        end,
                        {kMultiply<true>[0], kMultiply<true>[1], kMultiply<true>[2]},
                        {kMultiply<false>[0], kMultiply<false>[1], kMultiply<false>[2]}};

}  // namespace

const PanelOps& panel_ops_amx() { return kOps; }

}  // namespace halftone::backend::cpu
