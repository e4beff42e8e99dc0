// Compiled with AVX-512 F, BW and VNNI. Everything here has internal linkage, so that no inline
// function compiled for them can be chosen by the linker for the rest of the program.
#include <immintrin.h>

#include "backend/cpu/simd/panels.h"

namespace halftone::backend::cpu {
namespace {

constexpr int64_t kRows = 8;  // whose sums stay in registers

void nothing() {}

// The sum of a row's bytes.
int32_t row_sum(const std::byte* row, const int64_t* offsets, int64_t steps) {
  __m512i sum = _mm512_setzero_si512();
  for (int64_t j = 0; j < steps; ++j) {
    sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), _mm512_loadu_si512(row + offsets[j]));
  }
  return _mm512_reduce_add_epi32(sum);
}

// The instruction multiplies unsigned by signed bytes and sums exactly in 32 bits. With 128 added
// to the panel's bytes, 128 times the sum of a row is too much.
void multiply_rows(const std::byte* rows, int64_t row_bytes, const int64_t* offsets,
                   const std::byte* panel, int64_t steps, int32_t* sums) {
  const __m512i bias = _mm512_set1_epi8(-128);
  __m512i acc[kRows][2];
#pragma GCC unroll 8
  for (int64_t r = 0; r < kRows; ++r) {
    acc[r][0] = acc[r][1] = _mm512_set1_epi32(-128 * row_sum(rows + r * row_bytes, offsets, steps));
  }
  for (int64_t j = 0; j < steps; ++j) {
    const std::byte* first = panel + j * kPanelTileBytes;
    const std::byte* second = first + steps * kPanelTileBytes;
    const std::byte* left = rows + offsets[j];
    for (int64_t g = 0; g < kStepBytes; g += 4) {
      const __m512i b0 = _mm512_xor_si512(_mm512_loadu_si512(first + g * 16), bias);
      const __m512i b1 = _mm512_xor_si512(_mm512_loadu_si512(second + g * 16), bias);
#pragma GCC unroll 8
      for (int64_t r = 0; r < kRows; ++r) {
        int32_t four = 0;
        __builtin_memcpy(&four, left + r * row_bytes + g, sizeof four);
        const __m512i a = _mm512_set1_epi32(four);
        acc[r][0] = _mm512_dpbusd_epi32(acc[r][0], b0, a);
        acc[r][1] = _mm512_dpbusd_epi32(acc[r][1], b1, a);
      }
    }
  }
#pragma GCC unroll 8
  for (int64_t r = 0; r < kRows; ++r) {
    _mm512_storeu_si512(sums + r * kPanelCols, acc[r][0]);
    _mm512_storeu_si512(sums + r * kPanelCols + 16, acc[r][1]);
  }
}

void multiply_i8(const LeftTiles& left, const std::byte* panel, int64_t steps, void* sums) {
  auto* to = static_cast<int32_t*>(sums);
  for (const std::byte* tile : left.tiles) {
    for (int64_t r = 0; tile != nullptr && r < kPanelRows; r += kRows, to += kRows * kPanelCols) {
      multiply_rows(tile + r * left.row_bytes, left.row_bytes, left.offsets, panel, steps, to);
    }
  }
}

__m512 widen(__m512i pairs, bool odd) {
  return _mm512_castsi512_ps(odd ? _mm512_and_si512(pairs, _mm512_set1_epi32(-0x10000))
                                 : _mm512_slli_epi32(pairs, 16));
}

// For tests of what runs on AMX: a pair of a row after the other, in f32.
void multiply_bf16(const LeftTiles& left, const std::byte* panel, int64_t steps, void* sums) {
  auto* to = static_cast<float*>(sums);
  for (const std::byte* tile : left.tiles) {
    for (int64_t r = 0; tile != nullptr && r < kPanelRows; ++r) {
      for (int64_t block = 0; block < 2; ++block, to += 16) {
        __m512 sum = _mm512_setzero_ps();
        for (int64_t j = 0; j < steps; ++j) {
          const std::byte* right = panel + (block * steps + j) * kPanelTileBytes;
          for (int64_t g = 0; g < kStepBytes; g += 4) {
            int32_t pair = 0;
            __builtin_memcpy(&pair, tile + r * left.row_bytes + left.offsets[j] + g, sizeof pair);
            const __m512i a = _mm512_set1_epi32(pair);
            const __m512i b = _mm512_loadu_si512(right + g * 16);
            sum = _mm512_fmadd_ps(widen(a, false), widen(b, false), sum);
            sum = _mm512_fmadd_ps(widen(a, true), widen(b, true), sum);
          }
        }
        _mm512_storeu_ps(to, sum);
      }
    }
  }
}

constexpr PanelOps kOps{nothing, nothing, multiply_i8, multiply_bf16};

}  // namespace

const PanelOps& panel_ops_vnni() { return kOps; }

}  // namespace halftone::backend::cpu
