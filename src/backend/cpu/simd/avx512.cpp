// Compiled with AVX-512 F, BW, VL and DQ. Everything here has internal linkage, so that no inline
// function compiled for AVX-512 can be chosen by the linker for the rest of the program.
#include <immintrin.h>

#include "backend/cpu/simd/vector_ops.h"

namespace halftone::backend::cpu {
namespace {

struct Vec {
  static constexpr int64_t kWidth = 16;
  using Mask = __mmask16;
  __m512 v;

  static Vec zero() { return {_mm512_setzero_ps()}; }
  static Vec fill(float x) { return {_mm512_set1_ps(x)}; }
  static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vec load(const float* p, int64_t n) { return {_mm512_maskz_loadu_ps(first(n), p)}; }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void store(float* p, int64_t n) const { _mm512_mask_storeu_ps(p, first(n), v); }
  static Vec load_bf16(const void* p) { return from_bf16(_mm256_loadu_epi16(p)); }
  static Vec load_bf16(const void* p, int64_t n) {
    return from_bf16(_mm256_maskz_loadu_epi16(first(n), p));
  }
  void store_bf16(void* p) const { _mm256_storeu_epi16(p, to_bf16()); }
  void store_bf16(void* p, int64_t n) const { _mm256_mask_storeu_epi16(p, first(n), to_bf16()); }
  static Vec load_f16(const void* p) { return {_mm512_cvtph_ps(_mm256_loadu_epi16(p))}; }
  static Vec load_f16(const void* p, int64_t n) {
    return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(n), p))};
  }
  void store_f16(void* p) const { _mm256_storeu_epi16(p, to_f16()); }
  void store_f16(void* p, int64_t n) const { _mm256_mask_storeu_epi16(p, first(n), to_f16()); }
  // The values that store_bf16 and store_f16 keep.
  [[nodiscard]] Vec as_bf16() const {
    const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000U));
    return {_mm512_castsi512_ps(_mm512_and_si512(rounded_to_bf16(), upper))};
  }
  [[nodiscard]] Vec as_f16() const { return {_mm512_cvtph_ps(to_f16())}; }
  static Vec from_integers(const int32_t* p) { return {_mm512_cvtepi32_ps(_mm512_loadu_si512(p))}; }
  // Values in [-128, 127], rounded to nearest even.
  void store_i8(void* p) const { _mm_storeu_epi8(p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v))); }
  void store_i8(void* p, int64_t n) const {
    _mm512_mask_cvtepi32_storeu_epi8(p, first(n), _mm512_cvtps_epi32(v));
  }

  friend Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
  friend Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
  friend Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
  friend Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
  // a * b + c
  static Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  // NaN in the second operand passes.
  static Vec min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
  static Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
  static Vec round(Vec a) {
    return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
  }
  // 2^x = 2^n p(x - n), n whole, of a polynomial on [0, 1]: x - n, and what p of it makes.
  static Vec exp2_rest(Vec& x) {
    return {_mm512_reduce_ps(x.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)};
  }
  static Vec exp2_whole(Vec p, Vec x) { return {_mm512_scalef_ps(p.v, x.v)}; }
  // a * 2^n where the integer n stands in the lowest bits of `n`; the result must be a normal
  // number.
  static Vec add_to_exponent(Vec a, Vec n) {
    const __m512i power = _mm512_slli_epi32(_mm512_castps_si512(n.v), 23);
    return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a.v), power))};
  }
  // value where x >= limit (or x is NaN), else 0
  static Vec zero_below(Vec value, Vec x, Vec limit) {
    return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x.v, limit.v, _CMP_NLT_UQ), value.v)};
  }
  // In a fixed order.
  [[nodiscard]] float sum() const {
    alignas(64) float x[kWidth];
    _mm512_store_ps(x, v);
    for (int64_t step = kWidth / 2; step > 0; step /= 2) {
      for (int64_t i = 0; i < step; ++i) x[i] += x[i + step];
    }
    return x[0];
  }

 private:
  static Mask first(int64_t n) { return static_cast<Mask>((1U << n) - 1U); }
  static Vec from_bf16(__m256i bits) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
  }
  // The upper 16 bits are bf16.
  [[nodiscard]] __m512i rounded_to_bf16() const {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded =
        _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const Mask nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    return _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
  }
  [[nodiscard]] __m256i to_bf16() const {
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded_to_bf16(), 16));
  }
  [[nodiscard]] __m256i to_f16() const {
    return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
};

// 24 accumulators of the 32 registers.
constexpr size_t kMatrixRows = 12, kMatrixVecs = 2;
constexpr size_t kAttentionRows = 8, kAttentionVecs = 3;

#include "backend/cpu/simd/vector_ops.inc"

}  // namespace

const VectorOps& vector_ops_avx512() { return kOps; }

}  // namespace halftone::backend::cpu
