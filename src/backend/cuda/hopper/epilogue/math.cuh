// Scalar pieces of the epilogue: operand loads, activations, roundings.
#pragma once

#include <cstdint>
#include <type_traits>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "backend/cuda/hopper/gemm_args.h"

namespace halftone::backend::cuda::hopper {

__device__ __forceinline__ float load_float(const void* base, Element element, int64_t i) {
  switch (element) {
    case Element::kF16:
      return __half2float(static_cast<const __half*>(base)[i]);
    case Element::kBF16:
      return __bfloat162float(static_cast<const __nv_bfloat16*>(base)[i]);
    default:
      return static_cast<const float*>(base)[i];
  }
}

// The same in two steps, so that nothing waits for the load; each type has a register of its own,
// as a second load into one would wait for the first.
struct LoadedFloat {
  float wide = 0.0f;
  uint16_t narrow = 0;

  __device__ __forceinline__ void load(const void* base, Element element, int64_t i) {
    if (element == Element::kF32) {
      wide = static_cast<const float*>(base)[i];
    } else {
      narrow = static_cast<const uint16_t*>(base)[i];
    }
  }
  [[nodiscard]] __device__ __forceinline__ float value(Element element) const {
    if (element == Element::kF32) return wide;
    if (element == Element::kF16) return __half2float(__ushort_as_half(narrow));
    return __uint_as_float(uint32_t{narrow} << 16);
  }
};

// x * Phi(x), with Phi(-|x|) = 2^q(|x|). q is a minimax polynomial of log2(Phi(-a)) for a <= 6 and
// falls on beyond. So the error is relative to the result, on both sides: 3e-6; in front of codes
// 7e-5 for |x| < 2.5 and at most 3e-3 up to 5.5, of the largest code less than half.
template <bool kCodes>
__device__ __forceinline__ float gelu(float x) {
  const float a = fabsf(x);
  float q;
  if constexpr (kCodes) {
    q = fmaf(-3.14234944e-4f, a, 5.84440106e-3f);
    q = fmaf(q, a, -0.048528923f);
    q = fmaf(q, a, -0.463472644f);
    q = fmaf(q, a, -1.1495616f);
    q = fmaf(q, a, -1.00008867f);
  } else {
    q = fmaf(-1.83482228e-6f, a, 6.15985217e-5f);
    q = fmaf(q, a, -9.30526736e-4f);
    q = fmaf(q, a, 8.50789871e-3f);
    q = fmaf(q, a, -0.0539600857f);
    q = fmaf(q, a, -0.458464377f);
    q = fmaf(q, a, -1.15125105f);
    q = fmaf(q, a, -0.999995295f);
  }
  return fmaf(-a, power_of_two(q), fmaxf(x, 0.0f));
}

__device__ __forceinline__ float sigmoid(float x) {
  return reciprocal(1.0f + power_of_two(x * -kLog2E));
}

template <bool kCodes>
__device__ __forceinline__ float activate(float x, Activation activation) {
  switch (activation) {
    case Activation::kSilu:
      return x * sigmoid(x);
    case Activation::kGelu:
      return gelu<kCodes>(x);
    case Activation::kGeluTanh:
      return x * sigmoid(1.5957691f * fmaf(0.044715f * x * x, x, x));
    case Activation::kQuickGelu:
      return x * sigmoid(1.702f * x);
    default:
      return x;
  }
}

template <Activation kActivation>
using AsActivation = std::integral_constant<Activation, kActivation>;

// f with the activation as a constant: chosen for each value, it keeps the compiler from
// interleaving them.
template <class F>
__device__ __forceinline__ void with_activation(Activation activation, F f) {
  switch (activation) {
    case Activation::kSilu:
      f(AsActivation<Activation::kSilu>{});
      break;
    case Activation::kGelu:
      f(AsActivation<Activation::kGelu>{});
      break;
    case Activation::kGeluTanh:
      f(AsActivation<Activation::kGeluTanh>{});
      break;
    case Activation::kQuickGelu:
      f(AsActivation<Activation::kQuickGelu>{});
      break;
    default:
      f(AsActivation<Activation::kNone>{});
  }
}

// Two neighbours of the output as one word (16-bit types) or half a word (8-bit types), the first
// in the low bits; to nearest even, saturated for 8 bits.
template <Element kElement>
__device__ __forceinline__ uint32_t pack(float a, float b) {
  if constexpr (kElement == Element::kF16) {
    const __half2 h = __floats2half2_rn(a, b);
    return *reinterpret_cast<const uint32_t*>(&h);
  } else if constexpr (kElement == Element::kBF16) {
    const __nv_bfloat162 h = __floats2bfloat162_rn(a, b);
    return *reinterpret_cast<const uint32_t*>(&h);
  } else if constexpr (kElement == Element::kE4M3) {
    uint16_t packed;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(packed) : "f"(b), "f"(a));
    return packed;
  } else {
    uint32_t packed;
    const int first = __float2int_rn(a);
    const int second = __float2int_rn(b);
    asm("cvt.pack.sat.s8.s32.b32 %0, %1, %2, 0;" : "=r"(packed) : "r"(second), "r"(first));
    return packed & 0xFFFFu;
  }
}

template <Element kElement>
__device__ __forceinline__ float2 unpack(uint32_t word) {
  static_assert(kElement == Element::kF16 || kElement == Element::kBF16);
  if constexpr (kElement == Element::kF16) {
    return __half22float2(*reinterpret_cast<const __half2*>(&word));
  } else {
    return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&word));
  }
}

}  // namespace halftone::backend::cuda::hopper
