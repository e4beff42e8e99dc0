// Products of rows made those of normalized rows (RowNormArgs).
#pragma once

#include "backend/cuda/plain/args.h"

namespace halftone::backend::cuda {

inline constexpr int kSlotColumns = 80;  // graph::kStatisticsColumns

// v = columns `col`.. of row `row`. Slots are merged around the first one's mean, which loses at
// most a factor of their number, whatever the row's mean.
template <int kWidth>
__device__ __forceinline__ void normalize_row(const RowNormArgs& a, int64_t row, int64_t col,
                                              float (&v)[kWidth]) {
  if (a.statistics == nullptr) return;
  const auto columns = static_cast<int>(a.columns);
  const int slots = (columns + kSlotColumns - 1) / kSlotColumns;
  const auto* pairs = reinterpret_cast<const float2*>(a.statistics) + row * slots;
  const float pivot = pairs[0].x;
  float first = 0;
  float second = 0;
#pragma unroll 4
  for (int slot = 0; slot < slots; ++slot) {
    const float2 pair = pairs[slot];
    const auto n = static_cast<float>(min(kSlotColumns, columns - slot * kSlotColumns));
    const float d = pair.x - pivot;
    first = fmaf(n, d, first);
    second += fmaf(n * d, d, pair.y);
  }
  const float share = 1.0F / static_cast<float>(columns);
  const float d = first * share;
  const float scale = rsqrtf(fmaxf(fmaf(-first, d, second), 0.0F) * share + a.eps);
  const float mean = pivot + d;
#pragma unroll
  for (int k = 0; k < kWidth; ++k) v[k] = fmaf(-mean, a.column_sum[col + k], v[k]) * scale;
}

}  // namespace halftone::backend::cuda
