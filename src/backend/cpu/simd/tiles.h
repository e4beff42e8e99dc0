// Products of bf16 matrices in tiles of 16 rows of 64 bytes, and the softmax between two of them.
//
// A tile of a left operand holds 16 rows of 32 values. A tile of a right operand holds 32 rows of
// 16 columns as 16 rows of pairs: row r is a[2r][0], a[2r + 1][0], a[2r][1], a[2r + 1][1], ... A
// tile of a result holds 16 x 16 f32. All are dense, 1024 bytes.
#pragma once

#include <cstdint>

namespace halftone::backend::cpu {

inline constexpr int64_t kTileRows = 16;
inline constexpr int64_t kTileDepth = 32;    // bf16 values of a row
inline constexpr int64_t kTileValues = 512;  // bf16 values of a tile
inline constexpr int64_t kTileSums = 256;    // f32 values of a tile

// Tiles of an operand: tile (block, k) is at data + (block * step + k) * kTileValues.
struct TileOperand {
  const uint16_t* data;
  int64_t blocks;  // of 16 rows of a left operand, of 16 columns of a right one
  int64_t step;    // tiles between blocks
};

struct TileOps {
  // Tile (col, row) of c, at (col * c_step + row) * kTileSums, is (or grows by) the sum over k <
  // depth of a(row, k) * b(col, k).
  void (*multiply)(TileOperand a, TileOperand b, int64_t depth, float* c, int64_t c_step,
                   bool accumulate);
  // One step of an online softmax over scores[keys][16], a column a query, to base 2: with t =
  // scale * score, weights = 2^(t - maximum) as pairs of a right operand, of `padded` keys, a
  // multiple of 32; those beyond `keys` are 0. Updates the running maximum (of t) and sum, and
  // gives the factor by which what was summed before shrinks.
  void (*softmax_step)(const float* scores, int64_t keys, int64_t padded, float scale,
                       float* maximum, float* sum, float* shrink, uint16_t* weights);
  // x[rows][16]: multiplies every row elementwise by factors.
  void (*scale_columns)(float* x, int64_t rows, const float* factors);
};

// Multiplies with AMX where this processor has it, else by plain loops, slowly, for tests. Needs
// AVX-512.
[[nodiscard]] const TileOps& tile_ops();

[[nodiscard]] const TileOps& tile_ops_amx();
[[nodiscard]] const TileOps& tile_ops_plain();

}  // namespace halftone::backend::cpu
