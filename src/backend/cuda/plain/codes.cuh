// Quantized codes on the device: the arithmetic of tensor/quantized.h, each operation rounded on
// its own.
#pragma once

#include <cstdint>

#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "backend/cuda/plain/args.h"

namespace halftone::backend::cuda {

// Two f8e4m3 codes, the first lowest, saturated. Before sm_89 there is no instruction for it.
__device__ __forceinline__ uint16_t two_f8(float first, float second) {
#if __CUDA_ARCH__ >= 890
  uint16_t pair;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(second), "f"(first));
  return pair;
#else
  return __nv_cvt_float2_to_fp8x2(make_float2(first, second), __NV_SATFINITE, __NV_E4M3);
#endif
}

__device__ __forceinline__ float f8_value(uint8_t code) {
#if __CUDA_ARCH__ >= 890
  uint32_t halves;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"(static_cast<uint16_t>(code)));
  return __half2float(__ushort_as_half(static_cast<uint16_t>(halves)));
#else
  return __half2float(__half(__nv_cvt_fp8_to_halfraw(code, __NV_E4M3)));
#endif
}

// The code of v * inverse + zero: i8 and packed integers in [low, high], or f8e4m3.
__device__ __forceinline__ uint8_t code_of(const CodeFormat& f, float v, float inverse,
                                           float zero = 0) {
  const float scaled = __fmul_rn(v, inverse);
  if (f.dtype == DType::kF8E4M3) {
    return static_cast<uint8_t>(two_f8(scaled, 0.0F));
  }
  const float q = __fadd_rn(rintf(scaled), zero);
  return static_cast<uint8_t>(
      static_cast<int>(fmaxf(fminf(q, static_cast<float>(f.high)), static_cast<float>(f.low))));
}

// Four codes as a word, the first lowest; without a zero point.
__device__ __forceinline__ uint32_t four_codes(const CodeFormat& f, const float* v, float inverse) {
  const float a = __fmul_rn(v[0], inverse), b = __fmul_rn(v[1], inverse);
  const float c = __fmul_rn(v[2], inverse), d = __fmul_rn(v[3], inverse);
  if (f.dtype == DType::kF8E4M3) {
    return static_cast<uint32_t>(two_f8(a, b)) | static_cast<uint32_t>(two_f8(c, d)) << 16;
  }
  uint32_t high, all;  // to nearest even, then saturated to 8 bits
  asm("cvt.pack.sat.s8.s32.b32 %0, %1, %2, 0;"
      : "=r"(high)
      : "r"(__float2int_rn(d)), "r"(__float2int_rn(c)));
  asm("cvt.pack.sat.s8.s32.b32 %0, %1, %2, %3;"
      : "=r"(all)
      : "r"(__float2int_rn(b)), "r"(__float2int_rn(a)), "r"(high));
  return all;
}

// kWidth codes of one byte from element i on; 8 want an aligned address.
template <int kWidth>
__device__ __forceinline__ void store_codes(void* y, int64_t i, const CodeFormat& f,
                                            const float (&v)[kWidth], float inverse,
                                            float zero = 0) {
  if constexpr (kWidth == 8) {
    uint32_t words[2] = {0, 0};
    if (zero == 0 && f.low == -128) {
      words[0] = four_codes(f, v, inverse);
      words[1] = four_codes(f, v + 4, inverse);
    } else {
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        words[k / 4] |= static_cast<uint32_t>(code_of(f, v[k], inverse, zero)) << (k % 4 * 8);
      }
    }
    *reinterpret_cast<uint2*>(static_cast<uint8_t*>(y) + i) = make_uint2(words[0], words[1]);
  } else {
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      static_cast<uint8_t*>(y)[i + k] = code_of(f, v[k], inverse, zero);
    }
  }
}

// The value of code i, before its scale.
__device__ __forceinline__ float code_value(const void* p, const CodeFormat& f, int64_t i) {
  const auto* codes = static_cast<const uint8_t*>(p);
  if (f.dtype == DType::kF8E4M3) return f8_value(codes[i]);
  if (f.dtype == DType::kI8) return static_cast<float>(static_cast<int8_t>(codes[i]));
  const int64_t at = i * f.bits;
  const uint32_t top = static_cast<uint32_t>(codes[at / 8]) << (32 - f.bits - at % 8);
  return static_cast<float>(static_cast<int>(top) >> (32 - f.bits));
}

__device__ __forceinline__ float inverse_of(float scale) { return __frcp_rn(scale); }
__device__ __forceinline__ float dynamic_scale(float amax, float largest) {
  constexpr float kMinScale = 1e-12F;
  return fmaxf(__fdiv_rn(amax, largest), kMinScale);
}

}  // namespace halftone::backend::cuda
