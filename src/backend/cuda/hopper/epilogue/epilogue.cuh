// From accumulators to the staged output tile of one consumer warpgroup.
#pragma once

#include "backend/cuda/hopper/epilogue/math.cuh"
#include "backend/cuda/hopper/epilogue/row_norm.cuh"
#include "backend/cuda/hopper/epilogue/row_stats.cuh"
#include "backend/cuda/hopper/ptx/barrier.cuh"
#include "backend/cuda/hopper/tile.h"

namespace halftone::backend::cuda::hopper {

// Position of a tile: first row of the consumer's blocks and first output column.
struct TilePosition {
  int m;
  int n;
};

// Scales (sums of the weight where rows are normalized), biases and row adds of a tile's columns,
// on their way to shared memory: `read` starts the loads, `publish` puts the values where the
// epilogue looks for them.
template <class T>
struct TileColumns {
  static constexpr int kPerThread = (T::kBn + 127) / 128;
  float scale[kPerThread];
  float bias[kPerThread];
  float row_add[kPerThread][T::kBlocks];

  __device__ __forceinline__ void read(const KernelArgs& args, TilePosition at, int thread) {
    const EpilogueArgs& e = args.epilogue;
    const float common = e.row_scale != nullptr && e.row_scale_step == 0 ? *e.row_scale : 1.0f;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      const int c = thread + i * 128;
      const bool gate = T::kForm == Form::kGeglu && c >= T::kBn / 2;
      int column = at.n + c - (gate ? T::kBn / 2 : 0);
      const bool inside = c < T::kBn && column < args.n;
      column += gate ? args.n : 0;
      if constexpr (T::kNormalizes) {
        scale[i] = inside && e.column_sum != nullptr ? e.column_sum[column] : 0.0f;
      } else {
        scale[i] = inside && e.column_scale != nullptr ? e.column_scale[column] * common : common;
      }
      bias[i] = inside && e.bias != nullptr ? load_float(e.bias, e.bias_element, column) : 0.0f;
      if constexpr (T::kRowAdd) {
#pragma unroll
        for (int block = 0; block < T::kBlocks; ++block) {
          const int row = at.m + block * 64;
          row_add[i][block] =
              inside && e.row_add != nullptr && row < args.m
                  ? load_float(e.row_add, e.row_add_element,
                               static_cast<int64_t>(row / e.rows_per_image) * args.n + column)
                  : 0.0f;
        }
      }
    }
  }

  // columns: [kBn] scales, [kBn] biases, then [kBlocks][kBn] of the row add.
  __device__ __forceinline__ void publish(float* columns, int thread) const {
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      const int c = thread + i * 128;
      if (c < T::kBn) {
        columns[c] = scale[i];
        columns[T::kBn + c] = bias[i];
        if constexpr (T::kRowAdd) {
#pragma unroll
          for (int block = 0; block < T::kBlocks; ++block) {
            columns[(2 + block) * T::kBn + c] = row_add[i][block];
          }
        }
      }
    }
  }
};

// Fetches scales and biases of a tile's columns into the second level cache, 32 bytes a thread.
template <class T>
__device__ __forceinline__ void prefetch_columns(const KernelArgs& args, TilePosition at,
                                                 int thread) {
  const int c = thread * 8;
  const bool gate = T::kForm == Form::kGeglu && c >= T::kBn / 2;
  int column = at.n + c - (gate ? T::kBn / 2 : 0);
  if (c >= T::kBn || column >= args.n) return;
  column += gate ? args.n : 0;
  const EpilogueArgs& e = args.epilogue;
  const float* scale = T::kNormalizes ? e.column_sum : e.column_scale;
  if (scale != nullptr) asm volatile("prefetch.global.L2 [%0];" ::"l"(scale + column));
  if (e.bias == nullptr) return;
  const auto* bias =
      static_cast<const uint8_t*>(e.bias) + int64_t{column} * bytes_of(e.bias_element);
  asm volatile("prefetch.global.L2 [%0];" ::"l"(bias));
}

// Scales of the rows that a thread holds: r and r + 8 of each block; with them what is added to
// products for each unit of the column's sum, where rows are normalized.
template <class T>
struct TileRows {
  float scale[T::kBlocks][2];
  float shift[T::kBlocks][2];

  __device__ __forceinline__ void read(const KernelArgs& args, TilePosition at, int thread) {
    if constexpr (T::kNormalizes) {
      read_norms(args, at, thread);
    } else {
      read_scales(args, at, thread);
    }
  }

  static __device__ __forceinline__ int row_of(TilePosition at, int thread, int block, int half) {
    return at.m + block * 64 + thread / 32 * 16 + thread % 32 / 4 + half * 8;
  }

  __device__ __forceinline__ void read_scales(const KernelArgs& args, TilePosition at, int thread) {
#pragma unroll
    for (int block = 0; block < T::kBlocks; ++block) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = row_of(at, thread, block, half);
        scale[block][half] =
            args.epilogue.row_scale_step != 0 && row < args.m ? args.epilogue.row_scale[row] : 1.0f;
      }
    }
  }

  __device__ __forceinline__ void read_norms(const KernelArgs& args, TilePosition at, int thread) {
    constexpr int kRows = 2 * T::kBlocks;
    float scales[kRows];
    float shifts[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) scales[r] = 1.0f, shifts[r] = 0.0f;
    if (args.epilogue.x_statistics != nullptr) {
      int rows[kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        rows[r] = min(row_of(at, thread, r / 2, r % 2), args.m - 1);
      }
      read_row_norms(args.epilogue, rows, thread % 32, scales, shifts);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      scale[r / 2][r % 2] = scales[r];
      shift[r / 2][r % 2] = shifts[r];
    }
  }
};

// Offset of 16-byte chunk `chunk` of a row in a block of the staging area.
template <class T>
__device__ __forceinline__ uint32_t staged(int row, int chunk) {
  constexpr int kChunks = T::kPanelBytes / 16;
  const int panel = chunk / kChunks;
  int inside = chunk % kChunks;
  if constexpr (T::kPanelBytes == 128) inside ^= row & 7;
  if constexpr (T::kPanelBytes == 64) inside ^= (row >> 1) & 3;
  if constexpr (T::kPanelBytes == 32) inside ^= (row >> 2) & 1;
  return panel * 64 * T::kPanelBytes + row * T::kPanelBytes + inside * 16;
}

// These name no memory, so that loads of scales may pass them; the barriers around the epilogue
// order the staging area.
__device__ __forceinline__ void store_matrices(uint32_t address, const uint32_t (&v)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),
               "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[3]));
}
__device__ __forceinline__ void load_matrices(uint32_t address, uint32_t (&v)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
               : "r"(address));
}

// The four values a thread holds of 8 columns: rows r and r + 8, columns c and c + 1.
struct Quad {
  float2 upper;
  float2 lower;
};

template <class T, class Acc>
struct TileEpilogue {
  const KernelArgs& args;
  TilePosition at;
  const TileRows<T>& rows;
  const float* columns;
  uint32_t staging;
  float inverse_y;
  int lane;
  int warp;  // of the warpgroup

  // Each step is rounded on its own, as the definition of the quantized ops wants. Without
  // statistics a normalizing tile's shift is 0 and its scale 1: the sum alone.
  static __device__ __forceinline__ float scaled(Acc acc, float column, float row, float shift,
                                                 float bias) {
    if constexpr (T::kNormalizes) return fmaf(row, fmaf(shift, column, acc), bias);
    if constexpr (!T::kScaled) return __fadd_rn(acc, bias);
    return __fadd_rn(__fmul_rn(static_cast<float>(acc), __fmul_rn(row, column)), bias);
  }
  static __device__ __forceinline__ void add(Quad& q, float2 upper, float2 lower) {
    q.upper.x = __fadd_rn(q.upper.x, upper.x);
    q.upper.y = __fadd_rn(q.upper.y, upper.y);
    q.lower.x = __fadd_rn(q.lower.x, lower.x);
    q.lower.y = __fadd_rn(q.lower.y, lower.y);
  }

  __device__ __forceinline__ Quad linear(const Acc (&acc)[T::kBn / 2], int block, int chunk) const {
    const int c = chunk * 8 + lane % 4 * 2;
    const float2 s = *reinterpret_cast<const float2*>(columns + c);
    const float2 b = *reinterpret_cast<const float2*>(columns + T::kBn + c);
    const float upper = rows.scale[block][0];
    const float lower = rows.scale[block][1];
    const Acc* v = acc + chunk * 4;
    const float up = rows.shift[block][0];
    const float low = rows.shift[block][1];
    Quad q = {{scaled(v[0], s.x, upper, up, b.x), scaled(v[1], s.y, upper, up, b.y)},
              {scaled(v[2], s.x, lower, low, b.x), scaled(v[3], s.y, lower, low, b.y)}};
    if constexpr (T::kRowAdd) {
      const float2 r = *reinterpret_cast<const float2*>(columns + (2 + block) * T::kBn + c);
      add(q, r, r);
    }
    return q;
  }

  __device__ __forceinline__ Quad value(const Acc (&acc)[T::kBn / 2], int block, int chunk) const {
    Quad q = linear(acc, block, chunk);
    if constexpr (T::kForm == Form::kGeglu) {
      const Quad gate = linear(acc, block, chunk + T::kBn / 16);
      q.upper.x *= gelu(gate.upper.x);
      q.upper.y *= gelu(gate.upper.y);
      q.lower.x *= gelu(gate.lower.x);
      q.lower.y *= gelu(gate.lower.y);
    } else if constexpr (T::kForm == Form::kActivated) {
      q.upper.x = activate(q.upper.x, args.epilogue.activation);
      q.upper.y = activate(q.upper.y, args.epilogue.activation);
      q.lower.x = activate(q.lower.x, args.epilogue.activation);
      q.lower.y = activate(q.lower.y, args.epilogue.activation);
    }
    return q;
  }

  // Two forms: the products of statistics, passed over by predicates, would wait for the tensor
  // cores all the same.
  template <bool kStatistics>
  __device__ __forceinline__ void write_block16(const Acc (&acc)[T::kBn / 2], int block) const {
    const uint32_t base = staging + block * 64 * T::kOutRowBytes;
    const int row = warp * 16 + lane % 16;
    SlotSums<T::kOut> slot;
#pragma unroll
    for (int chunk = 0; chunk < T::kOutN / 8; chunk += 2) {
      Quad q[2] = {value(acc, block, chunk), value(acc, block, chunk + 1)};
      const uint32_t address = base + staged<T>(row, chunk + lane / 16);
      uint32_t words[4];
      if (args.epilogue.residual) {
        load_matrices(address, words);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          add(q[i], unpack<T::kOut>(words[2 * i]), unpack<T::kOut>(words[2 * i + 1]));
        }
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        words[2 * i] = pack<T::kOut>(q[i].upper.x, q[i].upper.y);
        words[2 * i + 1] = pack<T::kOut>(q[i].lower.x, q[i].lower.y);
      }
      store_matrices(address, words);
      if constexpr (kStatistics) {
        constexpr int kSlotChunks = kStatisticsColumns / 8;
        slot.add(words);
        if ((chunk + 2) % kSlotChunks != 0) continue;
        slot.write(args, at.m + block * 64 + warp * 16 + lane / 4,
                   at.n + (chunk + 2 - kSlotChunks) * 8, lane);
        slot = {};
        __syncwarp();
      }
    }
  }

  __device__ __forceinline__ void write_block8(const Acc (&acc)[T::kBn / 2], int block) const {
    const uint32_t base = staging + block * 64 * T::kOutRowBytes;
    const int row = warp * 16 + lane / 4;
#pragma unroll
    for (int chunk = 0; chunk < T::kOutN / 8; ++chunk) {
      const Quad q = value(acc, block, chunk);
      const uint32_t column = chunk % 2 * 8 + lane % 4 * 2;
      const auto upper =
          static_cast<uint16_t>(pack<T::kOut>(q.upper.x * inverse_y, q.upper.y * inverse_y));
      const auto lower =
          static_cast<uint16_t>(pack<T::kOut>(q.lower.x * inverse_y, q.lower.y * inverse_y));
      asm volatile("st.shared.b16 [%0], %1;" ::"r"(base + staged<T>(row, chunk / 2) + column),
                   "h"(upper));
      asm volatile("st.shared.b16 [%0], %1;" ::"r"(base + staged<T>(row + 8, chunk / 2) + column),
                   "h"(lower));
    }
  }

  __device__ __forceinline__ void write(const Acc (&acc)[T::kBlocks][T::kBn / 2]) const {
#pragma unroll
    for (int block = 0; block < T::kBlocks; ++block) {
      if constexpr (T::kRequantize) {
        write_block8(acc[block], block);
      } else {
        if constexpr (kMeasuresRows<T>) {
          if (args.epilogue.y_statistics != nullptr) {
            write_block16<true>(acc[block], block);
            continue;
          }
        }
        write_block16<false>(acc[block], block);
      }
    }
  }
};

}  // namespace halftone::backend::cuda::hopper
