// Compiled with AVX2, FMA and F16C. Everything here has internal linkage, so that no inline
// function compiled for AVX2 can be chosen by the linker for the rest of the program.
#include <cstring>

#include <immintrin.h>

#include "backend/cpu/simd/vector_ops.h"

namespace halftone::backend::cpu {
namespace {

struct Vec {
  static constexpr int64_t kWidth = 8;
  __m256 v;

  static Vec zero() { return {_mm256_setzero_ps()}; }
  static Vec fill(float x) { return {_mm256_set1_ps(x)}; }
  static Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static Vec load(const float* p, int64_t n) { return {_mm256_maskload_ps(p, first(n))}; }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  void store(float* p, int64_t n) const { _mm256_maskstore_ps(p, first(n), v); }
  static Vec load_bf16(const void* p) { return from_bf16(load_half(p)); }
  static Vec load_bf16(const void* p, int64_t n) { return from_bf16(load_half(p, n)); }
  void store_bf16(void* p) const { store_half(to_bf16(), p); }
  void store_bf16(void* p, int64_t n) const { store_half(to_bf16(), p, n); }
  static Vec load_f16(const void* p) { return {_mm256_cvtph_ps(load_half(p))}; }
  static Vec load_f16(const void* p, int64_t n) { return {_mm256_cvtph_ps(load_half(p, n))}; }
  void store_f16(void* p) const { store_half(to_f16(), p); }
  void store_f16(void* p, int64_t n) const { store_half(to_f16(), p, n); }
  // The values that store_bf16 and store_f16 keep.
  [[nodiscard]] Vec as_bf16() const {
    const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xffff0000U));
    return {_mm256_castsi256_ps(_mm256_and_si256(rounded_to_bf16(), upper))};
  }
  [[nodiscard]] Vec as_f16() const { return {_mm256_cvtph_ps(to_f16())}; }
  static Vec from_integers(const int32_t* p) {
    __m256i integers;
    std::memcpy(&integers, p, sizeof(integers));
    return {_mm256_cvtepi32_ps(integers)};
  }
  // Values in [-128, 127], rounded to nearest even.
  void store_i8(void* p) const { store_i8(p, kWidth); }
  void store_i8(void* p, int64_t n) const {
    const __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(v), _mm256_setzero_si256());
    const __m256i bytes = _mm256_packs_epi16(words, _mm256_setzero_si256());
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 1, 1, 1, 1, 1);
    const __m256i joined = _mm256_permutevar8x32_epi32(bytes, order);
    std::memcpy(p, &joined, static_cast<size_t>(n));
  }

  friend Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
  friend Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
  friend Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
  friend Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
  // a * b + c
  static Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
  // NaN in the second operand passes.
  static Vec min(Vec a, Vec b) { return {_mm256_min_ps(a.v, b.v)}; }
  static Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
  static Vec round(Vec a) {
    return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
  }
  // 2^x = 2^n p(x - n), n whole, of a polynomial on [0, 1]: x - n, and what p of it makes. x is
  // brought into the range of normal numbers.
  static Vec exp2_rest(Vec& x) {
    x = min(fill(127.0F), max(fill(-126.0F), x));
    return x - Vec{_mm256_floor_ps(x.v)};
  }
  static Vec exp2_whole(Vec p, Vec x) {
    const __m256i power = _mm256_slli_epi32(_mm256_cvtps_epi32(_mm256_floor_ps(x.v)), 23);
    return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p.v), power))};
  }
  // a * 2^n where the integer n stands in the lowest bits of `n`; the result must be a normal
  // number.
  static Vec add_to_exponent(Vec a, Vec n) {
    const __m256i power = _mm256_slli_epi32(_mm256_castps_si256(n.v), 23);
    return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a.v), power))};
  }
  // value where x >= limit (or x is NaN), else 0
  static Vec zero_below(Vec value, Vec x, Vec limit) {
    return {_mm256_and_ps(value.v, _mm256_cmp_ps(x.v, limit.v, _CMP_NLT_UQ))};
  }
  // In a fixed order.
  [[nodiscard]] float sum() const {
    alignas(32) float x[kWidth];
    _mm256_store_ps(x, v);
    for (int64_t step = kWidth / 2; step > 0; step /= 2) {
      for (int64_t i = 0; i < step; ++i) x[i] += x[i + step];
    }
    return x[0];
  }

 private:
  static __m256i first(int64_t n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane);
  }
  static __m128i load_half(const void* p) {
    __m128i bits;
    std::memcpy(&bits, p, sizeof(bits));
    return bits;
  }
  static __m128i load_half(const void* p, int64_t n) {
    __m128i bits = _mm_setzero_si128();
    std::memcpy(&bits, p, static_cast<size_t>(n) * 2);
    return bits;
  }
  static void store_half(__m128i bits, void* p) { std::memcpy(p, &bits, sizeof(bits)); }
  static void store_half(__m128i bits, void* p, int64_t n) {
    std::memcpy(p, &bits, static_cast<size_t>(n) * 2);
  }
  static Vec from_bf16(__m128i bits) {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16))};
  }
  // The upper 16 bits are bf16.
  [[nodiscard]] __m256i rounded_to_bf16() const {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded =
        _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    return _mm256_blendv_epi8(rounded, quiet, nan);
  }
  [[nodiscard]] __m128i to_bf16() const {
    const __m256i upper = _mm256_srli_epi32(rounded_to_bf16(), 16);
    const __m256i packed = _mm256_packus_epi32(upper, upper);
    return _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08));
  }
  [[nodiscard]] __m128i to_f16() const {
    return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
};

// 12 accumulators of the 16 registers.
constexpr size_t kMatrixRows = 6, kMatrixVecs = 2;
constexpr size_t kAttentionRows = 4, kAttentionVecs = 3;

#include "backend/cpu/simd/vector_ops.inc"

}  // namespace

const VectorOps& vector_ops_avx2() { return kOps; }

}  // namespace halftone::backend::cpu
