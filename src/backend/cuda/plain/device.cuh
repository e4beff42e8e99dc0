// Loads, stores and activations on the device.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "backend/cuda/plain/args.h"
#include "backend/cuda/special_functions.h"

namespace halftone::backend::cuda {

__device__ __forceinline__ float load1(const void* p, DType t, int64_t i) {
  switch (t) {
    case DType::kF16:
      return __half2float(static_cast<const __half*>(p)[i]);
    case DType::kBF16:
      return __bfloat162float(static_cast<const __nv_bfloat16*>(p)[i]);
    default:
      return static_cast<const float*>(p)[i];
  }
}

__device__ __forceinline__ void store1(void* p, DType t, int64_t i, float v) {
  switch (t) {
    case DType::kF16:
      static_cast<__half*>(p)[i] = __float2half_rn(v);
      return;
    case DType::kBF16:
      static_cast<__nv_bfloat16*>(p)[i] = __float2bfloat16_rn(v);
      return;
    default:
      static_cast<float*>(p)[i] = v;
  }
}

// kWidth elements from index i on; 8 want 16-byte (16-bit types) or 32-byte (f32) alignment.
template <int kWidth>
__device__ __forceinline__ void load(const void* p, DType t, int64_t i, float (&v)[kWidth]) {
  if constexpr (kWidth == 8) {
    if (t == DType::kF32) {
      const float4 a = *reinterpret_cast<const float4*>(static_cast<const float*>(p) + i);
      const float4 b = *reinterpret_cast<const float4*>(static_cast<const float*>(p) + i + 4);
      v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
      v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
      return;
    }
    const uint4 raw = *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(p) + i);
    const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      float2 f;
      if (t == DType::kF16) {
        f = __half22float2(*reinterpret_cast<const __half2*>(&words[k]));
      } else {
        f = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&words[k]));
      }
      v[2 * k] = f.x, v[2 * k + 1] = f.y;
    }
  } else {
#pragma unroll
    for (int k = 0; k < kWidth; ++k) v[k] = load1(p, t, i + k);
  }
}

template <int kWidth>
__device__ __forceinline__ void store(void* p, DType t, int64_t i, const float (&v)[kWidth]) {
  if constexpr (kWidth == 8) {
    if (t == DType::kF32) {
      auto* to = reinterpret_cast<float4*>(static_cast<float*>(p) + i);
      to[0] = make_float4(v[0], v[1], v[2], v[3]);
      to[1] = make_float4(v[4], v[5], v[6], v[7]);
      return;
    }
    uint32_t words[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (t == DType::kF16) {
        *reinterpret_cast<__half2*>(&words[k]) = __floats2half2_rn(v[2 * k], v[2 * k + 1]);
      } else {
        *reinterpret_cast<__nv_bfloat162*>(&words[k]) =
            __floats2bfloat162_rn(v[2 * k], v[2 * k + 1]);
      }
    }
    *reinterpret_cast<uint4*>(static_cast<uint16_t*>(p) + i) =
        make_uint4(words[0], words[1], words[2], words[3]);
  } else {
#pragma unroll
    for (int k = 0; k < kWidth; ++k) store1(p, t, i + k, v[k]);
  }
}

__device__ __forceinline__ float gelu_erf(float x) {
  return 0.5F * x * (1.0F + erff(x * 0.70710678118654752F));
}

__device__ __forceinline__ float silu(float x) {
  return x * reciprocal(1.0F + power_of_two(-kLog2E * x));
}

// Both with one reciprocal, 1/a = b / (a b). Powers end at 2^60, so that their product is finite:
// below -41.6 the factor of x stays at 2^-60 (docs/numerics.md).
__device__ __forceinline__ void two_silus(float& x, float& y) {
  constexpr float kMost = 60.0F;
  const float a = 1.0F + power_of_two(fminf(-kLog2E * x, kMost));
  const float b = 1.0F + power_of_two(fminf(-kLog2E * y, kMost));
  const float both = reciprocal(a * b);
  x *= both * b;
  y *= both * a;
}

__device__ __forceinline__ float activate(Act act, float x) {
  switch (act) {
    case Act::kNone:
      return x;
    case Act::kSilu:
      return silu(x);
    case Act::kGelu:
      return gelu_erf(x);
    case Act::kGeluTanh:
      return 0.5F * x * (1.0F + tanhf(0.79788456080286536F * (x + 0.044715F * x * x * x)));
    case Act::kQuickGelu:
      return x / (1.0F + __expf(-1.702F * x));
  }
  return x;
}

// Of neighbours.
template <int kWidth>
__device__ __forceinline__ void activate_all(Act act, float (&v)[kWidth]) {
  if constexpr (kWidth % 2 == 0) {
    if (act == Act::kSilu) {
#pragma unroll
      for (int k = 0; k < kWidth; k += 2) two_silus(v[k], v[k + 1]);
      return;
    }
  }
#pragma unroll
  for (int k = 0; k < kWidth; ++k) v[k] = activate(act, v[k]);
}

__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
  for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(0xffffffffU, v, d);
  return v;
}

__device__ __forceinline__ float warp_max(float v) {
#pragma unroll
  for (int d = 16; d > 0; d /= 2) v = fmaxf(v, __shfl_xor_sync(0xffffffffU, v, d));
  return v;
}

// Blocks for `items` threads' work, a few waves at most: kernels stride over the rest.
inline unsigned num_blocks(int64_t items, int threads) {
  const int64_t blocks = (items + threads - 1) / threads;
  return static_cast<unsigned>(blocks < 1 ? 1 : blocks > 132 * 32 ? 132 * 32 : blocks);
}

inline bool is_aligned(const void* p, uintptr_t bytes) {
  return reinterpret_cast<uintptr_t>(p) % bytes == 0;
}

// Whether rows of `cols` elements can be read eight at a time.
inline bool takes_eight(const void* p, DType t, int64_t cols) {
  return p == nullptr || (cols % 8 == 0 && is_aligned(p, t == DType::kF32 ? 32 : 16));
}

// Calls f with a value of the widest type that divides all byte counts.
template <class F>
void with_width(uintptr_t bytes, F f) {
  if (bytes % 16 == 0) {
    f(uint4{});
  } else if (bytes % 8 == 0) {
    f(uint64_t{});
  } else if (bytes % 4 == 0) {
    f(uint32_t{});
  } else if (bytes % 2 == 0) {
    f(uint16_t{});
  } else {
    f(uint8_t{});
  }
}

inline uintptr_t bits_of(const void* p) { return reinterpret_cast<uintptr_t>(p); }

}  // namespace halftone::backend::cuda
