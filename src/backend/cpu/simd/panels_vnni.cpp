// Compiled with AVX-512 F, BW and VNNI. Everything here has internal linkage, so that no inline
// function compiled for them can be chosen by the linker for the rest of the program.
#include <immintrin.h>

#include "backend/cpu/simd/panels.h"

namespace halftone::backend::cpu {
namespace {

constexpr int64_t kRows = 8;  // whose sums stay in registers

void nothing() {}

// f(left bytes, panel's bytes of the first block) for every step of a row that starts at byte
// `row` of each tap.
template <class F>
void for_steps(const LeftTiles& left, const LeftTap* taps, int64_t row, const std::byte* panel,
               F f) {
  for (int64_t tap = 0; tap < left.taps; ++tap) {
    const std::byte* from = taps[tap].rows + row * taps[tap].row_bytes;
    for (int64_t j = 0; j < left.tap_steps; ++j, panel += kPanelTileBytes) {
      f(from + j * kStepBytes, taps[tap].row_bytes, panel);
    }
  }
}

// The sum of a row's bytes.
int32_t row_sum(const LeftTiles& left, const LeftTap* taps, int64_t row) {
  __m512i sum = _mm512_setzero_si512();
  for_steps(left, taps, row, nullptr, [&](const std::byte* bytes, int64_t, const std::byte*) {
    sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), _mm512_loadu_si512(bytes));
  });
  return _mm512_reduce_add_epi32(sum);
}

// The instruction multiplies unsigned by signed bytes and sums exactly in 32 bits. With 128 added
// to the panel's bytes, 128 times the sum of a row is too much.
void multiply_rows(const LeftTiles& left, const LeftTap* taps, int64_t row, const std::byte* panel,
                   int32_t* sums) {
  const __m512i bias = _mm512_set1_epi8(-128);
  __m512i acc[kRows][2];
#pragma GCC unroll 8
  for (int64_t r = 0; r < kRows; ++r) {
    acc[r][0] = acc[r][1] = _mm512_set1_epi32(-128 * row_sum(left, taps, row + r));
  }
  const int64_t block_bytes = left.steps() * kPanelTileBytes;
  for_steps(left, taps, row, panel, [&](const std::byte* a, int64_t pitch, const std::byte* b) {
    for (int64_t g = 0; g < kStepBytes; g += 4) {
      const __m512i b0 = _mm512_xor_si512(_mm512_loadu_si512(b + g * 16), bias);
      const __m512i b1 = _mm512_xor_si512(_mm512_loadu_si512(b + block_bytes + g * 16), bias);
#pragma GCC unroll 8
      for (int64_t r = 0; r < kRows; ++r) {
        int32_t four = 0;
        __builtin_memcpy(&four, a + r * pitch + g, sizeof four);
        const __m512i bytes = _mm512_set1_epi32(four);
        acc[r][0] = _mm512_dpbusd_epi32(acc[r][0], b0, bytes);
        acc[r][1] = _mm512_dpbusd_epi32(acc[r][1], b1, bytes);
      }
    }
  });
#pragma GCC unroll 8
  for (int64_t r = 0; r < kRows; ++r) {
    _mm512_storeu_si512(sums + r * kPanelCols, acc[r][0]);
    _mm512_storeu_si512(sums + r * kPanelCols + 16, acc[r][1]);
  }
}

void multiply_i8(const LeftTiles& left, const std::byte* panel, void* sums, const PanelWork& work) {
  auto* to = static_cast<int32_t*>(sums);
  for (const LeftTap* taps : left.tiles) {
    for (int64_t r = 0; taps != nullptr && r < kPanelRows; r += kRows, to += kRows * kPanelCols) {
      multiply_rows(left, taps, r, panel, to);
    }
  }
  for (int64_t i = 0; i < work.pieces; ++i) work.run(work.context);
}

constexpr PanelOps kOps{nothing, nothing, {multiply_i8}, {}};

}  // namespace

const PanelOps& panel_ops_vnni() { return kOps; }

}  // namespace halftone::backend::cpu
