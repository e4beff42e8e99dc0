// The loops of AMX on tile registers in memory: their results where no AMX is, for tests. Compiled
// with AVX-512 F, BW and VNNI. Everything here has internal linkage, so that no inline function
// compiled for them can be chosen by the linker for the rest of the program.
#include <cstring>

#include <immintrin.h>

#include "backend/cpu/simd/panels.h"

namespace halftone::backend::cpu {
namespace {

__m512 widen(__m512i pairs, bool odd) {
  return _mm512_castsi512_ps(odd ? _mm512_and_si512(pairs, _mm512_set1_epi32(-0x10000))
                                 : _mm512_slli_epi32(pairs, 16));
}

struct Tiles {
  alignas(64) std::byte tile[8][kPanelTileBytes];

  template <int kTile>
  void zero() {
    std::memset(tile[kTile], 0, kPanelTileBytes);
  }
  template <int kTile, bool kPasses>
  void load(const std::byte* from, int64_t row_bytes) {
    for (int64_t row = 0; row < kPanelRows; ++row) {
      std::memcpy(tile[kTile] + row * kStepBytes, from + row * row_bytes, kStepBytes);
    }
  }
  template <int kTile>
  void store(std::byte* to, int64_t row_bytes) {
    for (int64_t row = 0; row < kPanelRows; ++row) {
      std::memcpy(to + row * row_bytes, tile[kTile] + row * kStepBytes, kStepBytes);
    }
  }
  template <bool kInteger, int kSum, int kLeft, int kRight>
  void dot() {
    for (int64_t row = 0; row < kPanelRows; ++row) {
      const std::byte* left = tile[kLeft] + row * kStepBytes;
      std::byte* sum = tile[kSum] + row * kStepBytes;
      if constexpr (kInteger) {
        _mm512_store_si512(sum, dot_i8(left, tile[kRight], _mm512_load_si512(sum)));
      } else {
        _mm512_store_ps(sum, dot_bf16(left, tile[kRight], _mm512_load_ps(sum)));
      }
    }
  }

 private:
  static __m512i four_bytes(const std::byte* from) {
    int32_t four = 0;
    std::memcpy(&four, from, sizeof four);
    return _mm512_set1_epi32(four);
  }
  // The instruction multiplies unsigned by signed bytes: with 128 added to the right ones, 128
  // times the sum of the left row is too much.
  static __m512i dot_i8(const std::byte* left, const std::byte* right, __m512i sum) {
    const __m512i ones =
        _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), _mm512_load_si512(left));
    sum = _mm512_sub_epi32(sum, _mm512_set1_epi32(128 * _mm512_reduce_add_epi32(ones)));
    for (int64_t g = 0; g < kStepBytes; g += 4) {
      const __m512i b = _mm512_xor_si512(_mm512_load_si512(right + g * 16), _mm512_set1_epi8(-128));
      sum = _mm512_dpbusd_epi32(sum, b, four_bytes(left + g));
    }
    return sum;
  }
  static __m512 dot_bf16(const std::byte* left, const std::byte* right, __m512 sum) {
    for (int64_t g = 0; g < kStepBytes; g += 4) {
      const __m512i a = four_bytes(left + g);
      const __m512i b = _mm512_load_si512(right + g * 16);
      sum = _mm512_fmadd_ps(widen(a, false), widen(b, false), sum);
      sum = _mm512_fmadd_ps(widen(a, true), widen(b, true), sum);
    }
    return sum;
  }
};

#include "backend/cpu/simd/panels_tiles.inc"

void nothing() {}

constexpr PanelOps kOps{nothing,
                        nothing,
                        {kMultiply<true>[0], kMultiply<true>[1], kMultiply<true>[2]},
                        {kMultiply<false>[0], kMultiply<false>[1], kMultiply<false>[2]}};

}  // namespace

const PanelOps& panel_ops_emulated() { return kOps; }

}  // namespace halftone::backend::cpu
