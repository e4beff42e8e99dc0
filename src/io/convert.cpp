#include "io/convert.h"

#include <bit>
#include <cstring>

#include <immintrin.h>

#include "base/scalar_types.h"
#include "tensor/tensor.h"

namespace halftone::io {
namespace {

// Eight elements of a type to and from f32 in an AVX2 register.

struct F32 {
  static constexpr DType kType = DType::kF32;
  __attribute__((target("avx2,f16c"))) static __m256 load(const void* p, size_t i) {
    return _mm256_loadu_ps(static_cast<const float*>(p) + i);
  }
  __attribute__((target("avx2,f16c"))) static void store(void* p, size_t i, __m256 v) {
    _mm256_storeu_ps(static_cast<float*>(p) + i, v);
  }
};

struct F16 {
  static constexpr DType kType = DType::kF16;
  __attribute__((target("avx2,f16c"))) static __m256 load(const void* p, size_t i) {
    __m128i bits;
    std::memcpy(&bits, static_cast<const uint16_t*>(p) + i, sizeof bits);
    return _mm256_cvtph_ps(bits);
  }
  __attribute__((target("avx2,f16c"))) static void store(void* p, size_t i, __m256 v) {
    const __m128i bits = _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
    std::memcpy(static_cast<uint16_t*>(p) + i, &bits, sizeof bits);
  }
};

struct BF16 {
  static constexpr DType kType = DType::kBF16;
  __attribute__((target("avx2,f16c"))) static __m256 load(const void* p, size_t i) {
    __m128i bits;
    std::memcpy(&bits, static_cast<const uint16_t*>(p) + i, sizeof bits);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  __attribute__((target("avx2,f16c"))) static void store(void* p, size_t i, __m256 v) {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded =
        _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i words = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, is_nan), 16);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(words, words), 0x08);
    const __m128i out = _mm256_castsi256_si128(packed);
    std::memcpy(static_cast<uint16_t*>(p) + i, &out, sizeof out);
  }
};

using Loop = void (*)(const void*, void*, size_t);

template <class From, class To>
__attribute__((target("avx2,f16c"))) void loop(const void* src, void* dst, size_t n) {
  for (size_t i = 0; i < n; i += 8) To::store(dst, i, From::load(src, i));
}

struct Pair {
  DType from;
  DType to;
  Loop run;
};
template <class From, class To>
constexpr Pair kPair{From::kType, To::kType, loop<From, To>};
constexpr Pair kPairs[] = {kPair<F16, F32>,  kPair<F16, BF16>, kPair<BF16, F32>,
                           kPair<BF16, F16>, kPair<F32, F16>,  kPair<F32, BF16>};

Loop find_loop(DType from, DType to) {
  static const bool kHasAvx2 =
      __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("f16c") != 0;
  if (!kHasAvx2) return nullptr;
  for (const Pair& pair : kPairs) {
    if (pair.from == from && pair.to == to) return pair.run;
  }
  return nullptr;
}

// Counts elements whose exponent bits are all ones.
template <class Word>
uint64_t count_exponent(const void* data, size_t n, Word mask) {
  uint64_t count = 0;
  constexpr size_t kBlock = 4096;  // a 32-bit counter per block vectorises
  const auto* p = static_cast<const Word*>(data);
  for (size_t i = 0; i < n; i += kBlock) {
    const size_t end = i + kBlock < n ? i + kBlock : n;
    uint32_t block = 0;
    for (size_t j = i; j < end; ++j) block += (p[j] & mask) == mask ? 1U : 0U;
    count += block;
  }
  return count;
}

}  // namespace

void convert_elements(const void* src, DType src_type, void* dst, DType dst_type, size_t n) {
  size_t done = 0;
  if (const Loop run = find_loop(src_type, dst_type)) {
    done = n / 8 * 8;
    run(src, dst, done);
  }
  convert(static_cast<const std::byte*>(src) + done * size_of(src_type), src_type,
          static_cast<std::byte*>(dst) + done * size_of(dst_type), dst_type, n - done);
}

uint64_t count_non_finite(const void* data, DType dtype, size_t n) {
  switch (dtype) {
    case DType::kF32:
      return count_exponent<uint32_t>(data, n, 0x7f800000U);
    case DType::kF16:
      return count_exponent<uint16_t>(data, n, uint16_t{0x7c00});
    case DType::kBF16:
      return count_exponent<uint16_t>(data, n, uint16_t{0x7f80});
    case DType::kF8E4M3:
      return count_exponent<uint8_t>(data, n, uint8_t{0x7f});
    case DType::kF8E5M2:
      return count_exponent<uint8_t>(data, n, uint8_t{0x7c});
    case DType::kI8:
    case DType::kU8:
    case DType::kI32:
    case DType::kI64:
      return 0;
  }
  return 0;
}

}  // namespace halftone::io
