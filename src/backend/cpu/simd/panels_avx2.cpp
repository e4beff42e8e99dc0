// Compiled with AVX2. Everything here has internal linkage, so that no inline function compiled for
// it can be chosen by the linker for the rest of the program.
#include <immintrin.h>

#include "backend/cpu/simd/panels.h"

namespace halftone::backend::cpu {
namespace {

constexpr int64_t kRows = 2;  // whose sums of a block stay in registers

void nothing() {}

// Bytes widened to 16 bits: their products, added in pairs, are exact in 32 bits.
__m256i widen(const std::byte* bytes) {
  __m128i raw;
  __builtin_memcpy(&raw, bytes, sizeof raw);
  return _mm256_cvtepi8_epi16(raw);
}

// Columns of a block hold two partial sums each; hadd joins them.
void store_sums(const __m256i (&acc)[4], int32_t* sums) {
  for (int64_t half = 0; half < 2; ++half) {
    const __m256i joined = _mm256_hadd_epi32(acc[2 * half], acc[2 * half + 1]);
    const __m256i ordered = _mm256_permute4x64_epi64(joined, 0xd8);
    __builtin_memcpy(sums + half * 8, &ordered, sizeof ordered);
  }
}

void multiply_block(const LeftTiles& left, const LeftTap* taps, int64_t row, const std::byte* right,
                    int32_t* sums) {
  __m256i acc[kRows][4] = {};
  for (int64_t step = 0; step < left.steps(); ++step) {
    const LeftTap& tap = taps[step / left.tap_steps];
    const std::byte* from = tap.rows + row * tap.row_bytes + step % left.tap_steps * kStepBytes;
    for (int64_t g = 0; g < kStepBytes; g += 4, right += 64) {
      const __m256i b[4] = {widen(right), widen(right + 16), widen(right + 32), widen(right + 48)};
#pragma GCC unroll 2
      for (int64_t r = 0; r < kRows; ++r) {
        int32_t four = 0;
        __builtin_memcpy(&four, from + r * tap.row_bytes + g, sizeof four);
        const __m256i a = _mm256_cvtepi8_epi16(_mm_set1_epi32(four));
#pragma GCC unroll 4
        for (int64_t i = 0; i < 4; ++i) {
          acc[r][i] = _mm256_add_epi32(acc[r][i], _mm256_madd_epi16(a, b[i]));
        }
      }
    }
  }
  for (int64_t r = 0; r < kRows; ++r) store_sums(acc[r], sums + r * kPanelCols);
}

void multiply_i8(const LeftTiles& left, const std::byte* panel, void* sums, const PanelWork& work) {
  auto* to = static_cast<int32_t*>(sums);
  for (const LeftTap* taps : left.tiles) {
    for (int64_t r = 0; taps != nullptr && r < kPanelRows; r += kRows, to += kRows * kPanelCols) {
      for (int64_t block = 0; block < 2; ++block) {
        multiply_block(left, taps, r, panel + block * left.steps() * kPanelTileBytes,
                       to + block * 16);
      }
    }
  }
  for (int64_t i = 0; i < work.pieces; ++i) work.run(work.context);
}

constexpr PanelOps kOps{nothing, nothing, {multiply_i8}, {}};

}  // namespace

const PanelOps& panel_ops_avx2() { return kOps; }

}  // namespace halftone::backend::cpu
