// Statistics of a tile's rows: what a layer norm of the output would need. They are sums over the
// packed words that the epilogue stages, which lie as the tensor cores take an operand: a product
// with ones sums rows, the diagonal of a product of rows with themselves their squares.
#pragma once

#include <cstdint>

#include "backend/cuda/hopper/gemm_args.h"
#include "backend/cuda/hopper/tile.h"

namespace halftone::backend::cuda::hopper {

// Tiles that can: of whole slots, so that a slot is one tile's.
template <class T>
inline constexpr bool kMeasuresRows = (bytes_of(T::kOut) == 2) && !T::kScaled && !T::kConv &&
                                      (T::kForm == Form::kPlain) &&
                                      (T::kOutN % kStatisticsColumns == 0);

// c += a * b of 16 x 16 and 16 x 8 elements.
template <Element kElement>
__device__ __forceinline__ void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                             uint32_t b1) {
  if constexpr (kElement == Element::kF16) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

// Of a warp's 16 rows in one slot. Sums of squares are not centred: an error of about 2^-21 of
// them, which is less than what the rounding of the elements themselves leaves open.
template <Element kElement>
struct SlotSums {
  float sum[4] = {};
  float upper[4] = {};
  float lower[4] = {};

  // 16 columns, as store_matrices() takes them.
  __device__ __forceinline__ void add(const uint32_t (&words)[4]) {
    constexpr uint32_t kOnes = kElement == Element::kF16 ? 0x3C003C00U : 0x3F803F80U;
    multiply_add<kElement>(sum, words, kOnes, kOnes);
    multiply_add<kElement>(upper, words, words[0], words[2]);
    multiply_add<kElement>(lower, words, words[1], words[3]);
  }

  // By the one lane of each quad that holds the diagonal; `row`: of the matrix, the upper one.
  __device__ __forceinline__ void write(const KernelArgs& args, int row, int column,
                                        int lane) const {
    if (lane % 4 != lane / 8 || column >= args.n) return;
    const bool odd = lane / 4 % 2 != 0;
    const int slots = (args.n + kStatisticsColumns - 1) / kStatisticsColumns;
    const auto columns = static_cast<float>(min(kStatisticsColumns, args.n - column));
    auto* y = reinterpret_cast<float2*>(args.epilogue.y_statistics) + column / kStatisticsColumns;
    put(y, int64_t{row} * slots, row < args.m, sum[0], odd ? upper[1] : upper[0], columns);
    put(y, (int64_t{row} + 8) * slots, row + 8 < args.m, sum[2], odd ? lower[3] : lower[2],
        columns);
  }

  static __device__ __forceinline__ void put(float2* y, int64_t at, bool inside, float sum,
                                             float squares, float columns) {
    const float mean = sum / columns;
    if (inside) y[at] = make_float2(mean, fmaxf(fmaf(-sum, mean, squares), 0.0f));
  }
};

}  // namespace halftone::backend::cuda::hopper
