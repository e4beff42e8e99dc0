// Tensor cores of every architecture from 8.0 on: products of 16 rows by 8 columns by 32 bytes of
// terms, and the copies that feed them.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace halftone::backend::cuda {

// d += a b: a [16 rows, k], b [k, 8 columns], k = 16 terms of 16 bits or 32 of 8. A thread (g =
// lane / 4, t = lane % 4) has of a rows g and g + 8, the t-th word of the first and of the second
// 16 bytes (in the order g, g + 8, g, g + 8); of b the same two words of column g; of d rows g and
// g + 8, columns 2t and 2t + 1. f8e4m3 needs 8.9.
#define HALFTONE_MMA(shape, types, constraint)                                 \
  asm("mma.sync.aligned." shape ".row.col." types                              \
      " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"       \
      : constraint(d[0]), constraint(d[1]), constraint(d[2]), constraint(d[3]) \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1))

template <DType kType>
__device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                         uint32_t b1) {
  static_assert(kType == DType::kF16 || kType == DType::kBF16 || kType == DType::kF8E4M3);
  if constexpr (kType == DType::kF16) {
    HALFTONE_MMA("m16n8k16", "f32.f16.f16.f32", "+f");
  } else if constexpr (kType == DType::kBF16) {
    HALFTONE_MMA("m16n8k16", "f32.bf16.bf16.f32", "+f");
  } else {
#if __CUDA_ARCH__ >= 890
    HALFTONE_MMA("m16n8k32", "f32.e4m3.e4m3.f32", "+f");
#endif
  }
}

template <DType kType>
__device__ __forceinline__ void multiply(int (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                         uint32_t b1) {
  static_assert(kType == DType::kI8);
  HALFTONE_MMA("m16n8k32", "s32.s8.s8.s32", "+r");
}
#undef HALFTONE_MMA

// Four matrices of eight rows of 16 bytes, thread i of 32 names row i % 8 of matrix i / 8: of each,
// thread (g, t) gets the t-th word of row g.
__device__ __forceinline__ void load_matrices(const void* row, uint32_t (&v)[4]) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
               : "r"(address)
               : "memory");
}

// Starts the copy of 16 bytes to shared memory; zeros where not `inside` (`from` is not read, but
// must be an address of the tensor).
__device__ __forceinline__ void copy_async(void* to, const void* from, bool inside) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from),
               "r"(inside ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Until all groups but the last kPending have arrived.
template <int kPending>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace halftone::backend::cuda
