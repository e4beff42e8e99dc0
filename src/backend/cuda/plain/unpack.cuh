// Weight codes to the words that the tensor cores read, exactly, in the codes' order.
#pragma once

#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "tensor/dtype.h"

namespace halftone::backend::cuda {

// How the codes of a weight lie, the first lowest: bytes, or packed in two's complement.
enum class Codes : uint8_t { kI8, kF8, kI4, kI2 };

[[nodiscard]] constexpr int bits_of(Codes codes) {
  return codes == Codes::kI4 ? 4 : codes == Codes::kI2 ? 2 : 8;
}
// Integer codes for 8-bit products lie in the highest bits of a byte: the sums are this many bits
// too large.
[[nodiscard]] constexpr int extra_bits(DType x, Codes codes) {
  return x == DType::kI8 ? 8 - bits_of(codes) : 0;
}

namespace unpacking {

template <DType kType>
__device__ __forceinline__ uint32_t subtract(uint32_t a, uint32_t b) {
  uint32_t d;
  if constexpr (kType == DType::kF16) {
    *reinterpret_cast<__half2*>(&d) =
        __hsub2(*reinterpret_cast<__half2*>(&a), *reinterpret_cast<__half2*>(&b));
  } else {
    *reinterpret_cast<__nv_bfloat162*>(&d) =
        __hsub2(*reinterpret_cast<__nv_bfloat162*>(&a), *reinterpret_cast<__nv_bfloat162*>(&b));
  }
  return d;
}

template <DType kType>
__device__ __forceinline__ uint32_t multiplied(uint32_t a, uint32_t b) {
  uint32_t d;
  if constexpr (kType == DType::kF16) {
    *reinterpret_cast<__half2*>(&d) =
        __hmul2(*reinterpret_cast<__half2*>(&a), *reinterpret_cast<__half2*>(&b));
  } else {
    *reinterpret_cast<__nv_bfloat162*>(&d) =
        __hmul2(*reinterpret_cast<__nv_bfloat162*>(&a), *reinterpret_cast<__nv_bfloat162*>(&b));
  }
  return d;
}

// 2^10 or 2^7 twice: numbers of that exponent count in ones from there, so that a small whole
// number put into the mantissa is added to it.
template <DType kType>
inline constexpr uint32_t kOnes = kType == DType::kF16 ? 0x64006400U : 0x43004300U;

// Bytes kFirst and kFirst + 1 of `word`.
template <DType kType, int kFirst>
__device__ __forceinline__ uint32_t two_bytes(uint32_t word) {
  constexpr uint32_t kApart = kFirst == 0 ? 0x5150U : 0x5352U;
  if constexpr (kType == DType::kF16) {
    return subtract<kType>(__byte_perm(word ^ 0x80808080U, kOnes<kType>, kApart), 0x64806480U);
  } else {
    // Seven bits fit the mantissa; the sign's bit doubles 128, which then is what to take off.
    const uint32_t apart = __byte_perm(word, kOnes<kType>, kApart);
    return subtract<kType>(apart & 0xff7fff7fU, apart & 0xff80ff80U);
  }
}

// Bytes 0 and 1 of a word that holds no others: no instruction needs two constants.
template <DType kType>
__device__ __forceinline__ uint32_t lone_bytes(uint32_t word) {
  if constexpr (kType == DType::kF16) {
    return subtract<kType>(__byte_perm(word, 0, 0x4140) ^ 0x64806480U, 0x64806480U);
  } else {
    return two_bytes<kType, 0>(word);
  }
}

// Two bytes of f8e4m3: its bits where the wider type has exponent and mantissa, times the ratio of
// the exponents' offsets.
template <DType kType, int kFirst>
__device__ __forceinline__ uint32_t two_f8_bytes(uint32_t word) {
  const uint32_t high = __byte_perm(word, 0, kFirst == 0 ? 0x1404 : 0x3424);
  constexpr int kShift = kType == DType::kF16 ? 1 : 4;
  const uint32_t bits = (high & 0x80008000U) | ((high & 0x7f007f00U) >> kShift);
  return multiplied<kType>(bits, kType == DType::kF16 ? 0x5c005c00U : 0x7b807b80U);
}

// The lowest kBits of byte kByte of two words.
template <DType kType, int kBits, int kByte>
__device__ __forceinline__ uint32_t two_fields(uint32_t first, uint32_t second) {
  constexpr uint32_t kMask = (1U << kBits) - 1U;
  constexpr uint32_t kHalf = 1U << (kBits - 1);  // flips the sign's bit: code + kHalf
  constexpr uint32_t kOffset = kOnes<kType> | kHalf << 16 | kHalf;
  const uint32_t both = __byte_perm(first, second, (4 + kByte) << 8 | kByte);
  return subtract<kType>((both & (kMask << 16 | kMask)) ^ kOffset, kOffset);
}

template <DType kType>
__device__ __forceinline__ void eight_i4(uint32_t word, uint32_t (&to)[4]) {
  const uint32_t odd = word >> 4;
  to[0] = two_fields<kType, 4, 0>(word, odd);
  to[1] = two_fields<kType, 4, 1>(word, odd);
  to[2] = two_fields<kType, 4, 2>(word, odd);
  to[3] = two_fields<kType, 4, 3>(word, odd);
}

// Of the lower half of `word`.
template <DType kType>
__device__ __forceinline__ void eight_i2(uint32_t word, uint32_t (&to)[4]) {
  const uint32_t second = word >> 2, third = word >> 4, fourth = word >> 6;
  to[0] = two_fields<kType, 2, 0>(word, second);
  to[1] = two_fields<kType, 2, 0>(third, fourth);
  to[2] = two_fields<kType, 2, 1>(word, second);
  to[3] = two_fields<kType, 2, 1>(third, fourth);
}

// 16 codes of four bits as bytes, times 16.
__device__ __forceinline__ void sixteen_i4(uint32_t first, uint32_t second, uint32_t (&to)[4]) {
  const uint32_t words[2] = {first, second};
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t even = words[i] << 4 & 0xf0f0f0f0U;
    const uint32_t odd = words[i] & 0xf0f0f0f0U;
    to[2 * i] = __byte_perm(even, odd, 0x5140);
    to[2 * i + 1] = __byte_perm(even, odd, 0x7362);
  }
}

// 16 codes of two bits as bytes, times 64.
__device__ __forceinline__ void sixteen_i2(uint32_t word, uint32_t (&to)[4]) {
  constexpr uint32_t kTop = 0xc0c0c0c0U;
  const uint32_t a = word << 6 & kTop, b = word << 4 & kTop, c = word << 2 & kTop, d = word & kTop;
  const uint32_t ab = __byte_perm(a, b, 0x5140), cd = __byte_perm(c, d, 0x5140);
  const uint32_t ab2 = __byte_perm(a, b, 0x7362), cd2 = __byte_perm(c, d, 0x7362);
  to[0] = __byte_perm(ab, cd, 0x5410);
  to[1] = __byte_perm(ab, cd, 0x7632);
  to[2] = __byte_perm(ab2, cd2, 0x5410);
  to[3] = __byte_perm(ab2, cd2, 0x7632);
}

}  // namespace unpacking

// Words of codes that hold 32 bytes of kX.
template <DType kX, Codes kCodes>
inline constexpr int kCodeWords = bits_of(kCodes) *
                                  (kX == DType::kI8 || kX == DType::kF8E4M3 ? 32 : 16) / 32;

// 16 bytes of kX, the kHalf-th of two, from the codes of both.
template <DType kX, Codes kCodes, int kHalf>
__device__ __forceinline__ void unpack(const uint32_t (&codes)[kCodeWords<kX, kCodes>],
                                       uint32_t (&to)[4]) {
  using namespace unpacking;
  if constexpr (kX == DType::kI8 || kX == DType::kF8E4M3) {
    static_assert(bits_of(kCodes) < 8);  // bytes need no unpacking
    if constexpr (kCodes == Codes::kI4) {
      sixteen_i4(codes[2 * kHalf], codes[2 * kHalf + 1], to);
    } else {
      sixteen_i2(codes[kHalf], to);
    }
  } else if constexpr (kCodes == Codes::kI4) {
    eight_i4<kX>(codes[kHalf], to);
  } else if constexpr (kCodes == Codes::kI2) {
    eight_i2<kX>(codes[0] >> (16 * kHalf), to);
  } else {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint32_t word = codes[2 * kHalf + i];
      if constexpr (kCodes == Codes::kI8) {
        to[2 * i] = two_bytes<kX, 0>(word);
        to[2 * i + 1] = two_bytes<kX, 2>(word);
      } else {
        to[2 * i] = two_f8_bytes<kX, 0>(word);
        to[2 * i + 1] = two_f8_bytes<kX, 2>(word);
      }
    }
  }
}

}  // namespace halftone::backend::cuda
