// Compiled with AVX-512 F and AMX. Everything here has internal linkage, so that no inline function
// compiled for these can be chosen by the linker for the rest of the program.
#include <immintrin.h>

#include "backend/cpu/simd/tiles.h"

namespace halftone::backend::cpu {
namespace {

constexpr int64_t kRowBytes = 64;

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);

// kRows x kCols tiles of the result stay in tile registers 0 to 3 over the whole sum.
template <int kRows, int kCols>
void multiply_block(const uint16_t* a, int64_t a_step, const uint16_t* b, int64_t b_step,
                    int64_t depth, float* c, int64_t c_step, bool accumulate) {
  float* c1 = c + c_step * kTileSums;
  if (accumulate) {
    _tile_loadd(0, c, kRowBytes);
    if constexpr (kRows > 1) _tile_loadd(1, c + kTileSums, kRowBytes);
    if constexpr (kCols > 1) _tile_loadd(2, c1, kRowBytes);
    if constexpr (kRows > 1 && kCols > 1) _tile_loadd(3, c1 + kTileSums, kRowBytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t k = 0; k < depth; ++k, a += kTileValues, b += kTileValues) {
    _tile_loadd(4, a, kRowBytes);
    _tile_loadd(6, b, kRowBytes);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kRows > 1) {
      _tile_loadd(5, a + a_step * kTileValues, kRowBytes);
      _tile_dpbf16ps(1, 5, 6);
    }
    if constexpr (kCols > 1) {
      _tile_loadd(7, b + b_step * kTileValues, kRowBytes);
      _tile_dpbf16ps(2, 4, 7);
    }
    if constexpr (kRows > 1 && kCols > 1) _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, c, kRowBytes);
  if constexpr (kRows > 1) _tile_stored(1, c + kTileSums, kRowBytes);
  if constexpr (kCols > 1) _tile_stored(2, c1, kRowBytes);
  if constexpr (kRows > 1 && kCols > 1) _tile_stored(3, c1 + kTileSums, kRowBytes);
}

void multiply_amx(TileOperand a, TileOperand b, int64_t depth, float* c, int64_t c_step,
                  bool accumulate) {
  static constexpr TileConfig kConfig;
  _tile_loadconfig(&kConfig);
  for (int64_t row = 0; row < a.blocks; row += 2) {
    for (int64_t col = 0; col < b.blocks; col += 2) {
      const bool two_rows = row + 1 < a.blocks;
      const bool two_cols = col + 1 < b.blocks;
      const auto block = two_rows   ? (two_cols ? multiply_block<2, 2> : multiply_block<2, 1>)
                         : two_cols ? multiply_block<1, 2>
                                    : multiply_block<1, 1>;
      block(a.data + row * a.step * kTileValues, a.step, b.data + col * b.step * kTileValues,
            b.step, depth, c + (col * c_step + row) * kTileSums, c_step, accumulate);
    }
  }
  _tile_release();
}

__m512 widen(__m512i pairs, bool odd) {
  return _mm512_castsi512_ps(odd ? _mm512_and_si512(pairs, _mm512_set1_epi32(-0x10000))
                                 : _mm512_slli_epi32(pairs, 16));
}

// The sum of one tile product, in the order of the rows of pairs.
void multiply_tile(const uint16_t* a, const uint16_t* b, float* c) {
  for (int64_t row = 0; row < kTileRows; ++row) {
    __m512 sum = _mm512_loadu_ps(c + row * kTileRows);
    for (int64_t pair = 0; pair < kTileDepth / 2; ++pair) {
      const __m512i right = _mm512_loadu_si512(b + pair * kTileDepth);
      int32_t left = 0;
      __builtin_memcpy(&left, a + row * kTileDepth + 2 * pair, sizeof left);
      const __m512i both = _mm512_set1_epi32(left);
      sum = _mm512_fmadd_ps(widen(both, false), widen(right, false), sum);
      sum = _mm512_fmadd_ps(widen(both, true), widen(right, true), sum);
    }
    _mm512_storeu_ps(c + row * kTileRows, sum);
  }
}

void multiply_plain(TileOperand a, TileOperand b, int64_t depth, float* c, int64_t c_step,
                    bool accumulate) {
  for (int64_t col = 0; col < b.blocks; ++col) {
    for (int64_t row = 0; row < a.blocks; ++row) {
      float* tile = c + (col * c_step + row) * kTileSums;
      for (int64_t i = 0; !accumulate && i < kTileSums; ++i) tile[i] = 0.0F;
      for (int64_t k = 0; k < depth; ++k) {
        multiply_tile(a.data + (row * a.step + k) * kTileValues,
                      b.data + (col * b.step + k) * kTileValues, tile);
      }
    }
  }
}

// 2^x for x <= 0: a polynomial on [0, 1] of relative error 3e-6, exact at 0. NaN passes.
__m512 exp2_negative(__m512 x) {
  const __m512 f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  __m512 p = _mm512_set1_ps(1.34267043e-2F);
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.22424430e-2F));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.41280228e-1F));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.93044841e-1F));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0F));
  return _mm512_scalef_ps(p, x);  // by the whole part
}

// The larger of each column's scores; kept in parts so that none waits for the other.
__m512 column_maximum(const float* scores, int64_t keys) {
  __m512 top[4];
  for (__m512& part : top) part = _mm512_loadu_ps(scores);
  int64_t key = 0;
  for (; key + 4 <= keys; key += 4) {
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; ++i) {
      top[i] = _mm512_max_ps(top[i], _mm512_loadu_ps(scores + (key + i) * kTileRows));
    }
  }
  for (; key < keys; ++key) {
    top[0] = _mm512_max_ps(top[0], _mm512_loadu_ps(scores + key * kTileRows));
  }
  return _mm512_max_ps(_mm512_max_ps(top[0], top[1]), _mm512_max_ps(top[2], top[3]));
}

// Rounded to bf16, half away from zero; even rows in the low halves.
__m512i make_pairs(__m512 even, __m512 odd) {
  const __m512i half = _mm512_set1_epi32(0x8000);
  const __m512i low = _mm512_srli_epi32(_mm512_add_epi32(_mm512_castps_si512(even), half), 16);
  const __m512i high = _mm512_add_epi32(_mm512_castps_si512(odd), half);
  return _mm512_mask_blend_epi16(0xaaaaaaaaU, low, high);
}

void softmax_step(const float* scores, int64_t keys, int64_t padded, float scale, float* maximum,
                  float* sum, float* shrink, uint16_t* weights) {
  const __m512 factor = _mm512_set1_ps(scale);
  const __m512 before = _mm512_loadu_ps(maximum);
  const __m512 top = _mm512_max_ps(before, _mm512_mul_ps(factor, column_maximum(scores, keys)));
  const auto weight = [&](int64_t key) {
    return exp2_negative(_mm512_fmsub_ps(factor, _mm512_loadu_ps(scores + key * kTileRows), top));
  };
  __m512 part = _mm512_setzero_ps();
  int64_t key = 0;
  for (; key + 1 < keys; key += 2) {
    const __m512 even = weight(key);
    const __m512 odd = weight(key + 1);
    part = _mm512_add_ps(part, _mm512_add_ps(even, odd));
    _mm512_storeu_si512(weights + key * kTileRows, make_pairs(even, odd));
  }
  for (; key < padded; key += 2) {
    const __m512 even = key < keys ? weight(key) : _mm512_setzero_ps();
    part = _mm512_add_ps(part, even);
    _mm512_storeu_si512(weights + key * kTileRows, make_pairs(even, _mm512_setzero_ps()));
  }
  const __m512 shrinking = exp2_negative(_mm512_sub_ps(before, top));
  _mm512_storeu_ps(shrink, shrinking);
  _mm512_storeu_ps(maximum, top);
  _mm512_storeu_ps(sum, _mm512_fmadd_ps(_mm512_loadu_ps(sum), shrinking, part));
}

void scale_columns(float* x, int64_t rows, const float* factors) {
  const __m512 factor = _mm512_loadu_ps(factors);
  for (int64_t row = 0; row < rows; ++row, x += kTileRows) {
    _mm512_storeu_ps(x, _mm512_mul_ps(_mm512_loadu_ps(x), factor));
  }
}

constexpr TileOps kAmx{multiply_amx, softmax_step, scale_columns};
constexpr TileOps kPlain{multiply_plain, softmax_step, scale_columns};

}  // namespace

const TileOps& tile_ops_amx() { return kAmx; }
const TileOps& tile_ops_plain() { return kPlain; }

}  // namespace halftone::backend::cpu
