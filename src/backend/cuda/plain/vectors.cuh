// Kernels that run at memory's speed know their element types when they are compiled: vectors of
// elements as they lie in memory, results of a known format, reductions over a row's threads.
#pragma once

#include <type_traits>

#include "backend/cuda/plain/codes.cuh"
#include "backend/cuda/plain/device.cuh"

namespace halftone::backend::cuda {

// An element type or activation that is known at run time only.
inline constexpr int kAny = -1;
inline constexpr int kF16 = static_cast<int>(DType::kF16);
inline constexpr int kBF16 = static_cast<int>(DType::kBF16);
inline constexpr int kI8 = static_cast<int>(DType::kI8);
inline constexpr int kF8 = static_cast<int>(DType::kF8E4M3);

// kWidth neighbouring elements. Reading and unpacking are apart, so that many reads are on their
// way while registers hold 16-bit elements.
template <int kWidth, int kType>
struct Elements {
  static_assert(kType == kAny || kWidth == 8);
  struct Floats {
    float v[kWidth];
  };
  std::conditional_t<kType == kAny, Floats, uint4> raw;

  __device__ __forceinline__ void read(const Typed& from, int64_t i) {
    if constexpr (kType == kAny) {
      load(from.data, from.dtype, i, raw.v);
    } else {
      raw = *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(from.data) + i);
    }
  }

  __device__ __forceinline__ void unpack(float (&v)[kWidth]) const {
    if constexpr (kType == kAny) {
#pragma unroll
      for (int k = 0; k < kWidth; ++k) v[k] = raw.v[k];
    } else {
      const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        float2 f;
        if constexpr (kType == kF16) {
          f = __half22float2(*reinterpret_cast<const __half2*>(&words[k]));
        } else {
          f = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&words[k]));
        }
        v[2 * k] = f.x, v[2 * k + 1] = f.y;
      }
    }
  }
};

// Elements i.. of y: codes of v * inverse where kOut says so or, with kAny, `coded`; else floats.
template <int kOut, int kWidth>
__device__ __forceinline__ void write(const TypedOut& y, const CodeFormat& format, bool coded,
                                      int64_t i, const float (&v)[kWidth], float inverse) {
  if constexpr (kOut == kI8 || kOut == kF8) {
    CodeFormat known;
    known.dtype = static_cast<DType>(kOut);
    store_codes(y.data, i, known, v, inverse);
  } else if constexpr (kOut == kAny) {
    if (coded) {
      store_codes(y.data, i, format, v, inverse);
    } else {
      store(y.data, y.dtype, i, v);
    }
  } else {
    store(y.data, static_cast<DType>(kOut), i, v);
  }
}

template <int kX, int kY>
struct KnownTypes {};

// Calls f with the types of x and y where x is 16 bits wide and y the same or full 8-bit codes;
// else with <kAny, kAny>. `format`: of codes, null when y holds floats.
template <class F>
void with_known_types(DType x, DType y, const CodeFormat* format, F f) {
  const auto with_x = [&]<int kX>(KnownTypes<kX, kX> same) {
    if (format == nullptr) {
      static_cast<int>(y) == kX ? f(same) : f(KnownTypes<kAny, kAny>{});
    } else if (format->dtype == DType::kI8 && format->low == -128) {
      f(KnownTypes<kX, kI8>{});
    } else if (format->dtype == DType::kF8E4M3) {
      f(KnownTypes<kX, kF8>{});
    } else {
      f(KnownTypes<kAny, kAny>{});
    }
  };
  if (x == DType::kF16) {
    with_x(KnownTypes<kF16, kF16>{});
  } else if (x == DType::kBF16) {
    with_x(KnownTypes<kBF16, kBF16>{});
  } else {
    f(KnownTypes<kAny, kAny>{});
  }
}

// Where a group norm's thread finds the columns from `column` on: in x or in x2.
struct NormSource {
  Typed x;
  int pitch;
  int column;

  __device__ __forceinline__ NormSource(const GroupNormArgs& a, int of_row)
      : x(a.x), pitch(static_cast<int>(a.split)), column(of_row) {
    if (of_row < pitch) return;
    x.data = a.x2.data;
    column = of_row - pitch;
    pitch = static_cast<int>(a.channels) - pitch;
  }
  [[nodiscard]] __device__ __forceinline__ int64_t at(int64_t row) const {
    return row * pitch + column;
  }
};

// The reciprocal of the scale of a group norm's joined codes.
__device__ __forceinline__ float joined_inverse(const GroupNormArgs& a) {
  return a.joined_scale != nullptr ? inverse_of(*a.joined_scale) : 1.0F;
}

// Elements i.. of a group norm's joined input: x as it was read, or its codes of y's type.
template <int kX, int kY, int kWidth>
__device__ __forceinline__ void write_joined(const GroupNormArgs& a, int64_t i,
                                             const Elements<kWidth, kX>& x,
                                             const float (&values)[kWidth], float inverse) {
  if (a.joined_scale != nullptr) {
    if constexpr (kX == kAny || kY != kX) {
      write<kY>(a.joined, a.format, true, i, values, inverse);
    }
  } else if constexpr (kX == kAny) {
    store(a.joined.data, a.joined.dtype, i, values);
  } else {
    *reinterpret_cast<uint4*>(static_cast<uint16_t*>(a.joined.data) + i) = x.raw;
  }
}

// The same value in all kLanes threads of a row; every thread of the block takes part. `parts`:
// shared, one for each warp of the block, used once.
template <int kLanes, class Combine>
__device__ __forceinline__ float reduce_row(float v, float* parts, Combine combine) {
#pragma unroll
  for (int d = 1; d < (kLanes < 32 ? kLanes : 32); d *= 2) {
    v = combine(v, __shfl_xor_sync(0xffffffffU, v, d));
  }
  if constexpr (kLanes > 32) {
    constexpr int kWarps = kLanes / 32;
    const int warp = static_cast<int>(threadIdx.x) / 32;
    if (threadIdx.x % 32 == 0) parts[warp] = v;
    __syncthreads();
    const float* row = parts + warp / kWarps * kWarps;
    v = row[0];
#pragma unroll
    for (int i = 1; i < kWarps; ++i) v = combine(v, row[i]);
  }
  return v;
}

template <int kLanes>
__device__ __forceinline__ float sum_row(float v, float* parts) {
  return reduce_row<kLanes>(v, parts, [](float a, float b) { return a + b; });
}

template <int kLanes>
__device__ __forceinline__ float max_row(float v, float* parts) {
  return reduce_row<kLanes>(v, parts, [](float a, float b) { return fmaxf(a, b); });
}

// Brings `elements` into the second level cache. Reads nothing, so it may come before
// follow_previous_kernel().
__device__ __forceinline__ void prefetch(const Typed& p, int64_t elements) {
  constexpr int64_t kLine = 128;
  const int64_t bytes = elements * (p.dtype == DType::kF32 ? 4 : 2);
  for (int64_t at = threadIdx.x * kLine; at < bytes; at += blockDim.x * kLine) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(static_cast<const char*>(p.data) + at));
  }
}

}  // namespace halftone::backend::cuda
