// From accumulators to the staged output tile of one consumer warpgroup.
#pragma once

#include <type_traits>

#include "backend/cuda/hopper/epilogue/amax.cuh"
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
// on their way to shared memory: `read` starts the loads and waits for none, `publish` puts the
// values where the epilogue looks for them.
template <class T>
struct TileColumns {
  static constexpr int kPerThread = (T::kBn + 127) / 128;
  static constexpr bool kMakesCodes = T::kForm == Form::kGeglu && T::kRequantize;
  float common;
  float y_scale;
  float scale[kPerThread];
  LoadedFloat bias[kPerThread];
  float row_add[kPerThread][T::kBlocks];

  static __device__ __forceinline__ bool is_gate(int c) {
    return T::kForm == Form::kGeglu && c >= T::kBn / 2;
  }

  __device__ __forceinline__ void read(const KernelArgs& args, TilePosition at, int thread) {
    const EpilogueArgs& e = args.epilogue;
    common = e.row_scale != nullptr && e.row_scale_step == 0 ? *e.row_scale : 1.0f;
    if constexpr (kMakesCodes) y_scale = *e.y_scale;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      const int c = thread + i * 128;
      int column = at.n + c - (is_gate(c) ? T::kBn / 2 : 0);
      const bool inside = c < T::kBn && column < args.n;
      column += is_gate(c) ? args.n : 0;
      const float* scales = T::kNormalizes ? e.column_sum : e.column_scale;
      scale[i] = T::kNormalizes ? 0.0f : 1.0f;
      if (inside && scales != nullptr) scale[i] = scales[column];
      bias[i] = {};
      if (inside && e.bias != nullptr) bias[i].load(e.bias, e.bias_element, column);
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

  // columns: [kBn] pairs of scale and bias, then [kBlocks][kBn] of the row add. Columns of values
  // that become codes behind their gates are divided by the output's scale.
  __device__ __forceinline__ void publish(const EpilogueArgs& e, float* columns, int thread) const {
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      const int c = thread + i * 128;
      float2 pair = {T::kNormalizes ? scale[i] : scale[i] * common, bias[i].value(e.bias_element)};
      if constexpr (kMakesCodes) {
        const float factor = is_gate(c) ? 1.0f : reciprocal(y_scale);
        pair = {pair.x * factor, pair.y * factor};
      }
      if (c < T::kBn) {
        reinterpret_cast<float2*>(columns)[c] = pair;
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

// The same for a thread's 16 bytes of two neighbouring chunks, the first of them even: the lower
// half of a warp has the one, the upper half the other. What depends on the thread is computed once
// for each of the few values of `chunk % kChunks`, the rest are constants.
template <class T>
__device__ __forceinline__ uint32_t staged_pair(int row, int upper_half, int chunk) {
  constexpr int kChunks = T::kPanelBytes / 16;
  static_assert(kChunks % 2 == 0);
  return chunk / kChunks * 64 * T::kPanelBytes + staged<T>(row, chunk % kChunks ^ upper_half);
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

__device__ __forceinline__ void store_word(uint32_t address, uint32_t word) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(word));
}

// The four values a thread holds of 8 columns: rows r and r + 8, columns c and c + 1.
struct Quad {
  float2 upper;
  float2 lower;
};

// Scales and biases of the two columns that a thread holds of 8.
struct PairOfColumns {
  float2 scale;
  float2 bias;
};

// kActivation: of activated tiles with scales, which have a form for each; else what is done is
// asked at run time.
template <class T, class Acc, Activation kActivation = Activation::kNone>
struct TileEpilogue {
  const KernelArgs& args;
  TilePosition at;
  const TileRows<T>& rows;
  const float* columns;
  uint32_t staging;
  uint32_t amax;  // where the warps leave theirs
  float inverse_y;
  int lane;
  int warp;  // of the warpgroup

  static constexpr int kGate = T::kBn / 16;  // chunks from a value to its gate

  // Each step is rounded on its own, as the definition of the quantized ops wants; in front of a
  // gate, where the definition leaves a few units open, at once. Without statistics a normalizing
  // tile's shift is 0 and its scale 1: the sum alone.
  template <bool kRowScales>
  static __device__ __forceinline__ float scaled(Acc acc, float column, float row, float shift,
                                                 float bias) {
    if constexpr (T::kNormalizes) return fmaf(row, fmaf(shift, column, acc), bias);
    if constexpr (!T::kScaled) return __fadd_rn(acc, bias);
    const float scale = kRowScales ? __fmul_rn(row, column) : column;
    if constexpr (T::kForm == Form::kGeglu) return fmaf(static_cast<float>(acc), scale, bias);
    return __fadd_rn(__fmul_rn(static_cast<float>(acc), scale), bias);
  }
  static __device__ __forceinline__ void add(Quad& q, float2 upper, float2 lower) {
    q.upper.x = __fadd_rn(q.upper.x, upper.x);
    q.upper.y = __fadd_rn(q.upper.y, upper.y);
    q.lower.x = __fadd_rn(q.lower.x, lower.x);
    q.lower.y = __fadd_rn(q.lower.y, lower.y);
  }

  [[nodiscard]] __device__ __forceinline__ PairOfColumns columns_of(int chunk) const {
    const float4 v = reinterpret_cast<const float4*>(columns)[chunk * 4 + lane % 4];
    return {{v.x, v.z}, {v.y, v.w}};
  }

  template <bool kRowScales>
  __device__ __forceinline__ Quad linear(const Acc (&acc)[T::kBn / 2], const PairOfColumns& c,
                                         int block, int chunk) const {
    const float upper = rows.scale[block][0];
    const float lower = rows.scale[block][1];
    const Acc* v = acc + chunk * 4;
    const float up = rows.shift[block][0];
    const float low = rows.shift[block][1];
    Quad q = {{scaled<kRowScales>(v[0], c.scale.x, upper, up, c.bias.x),
               scaled<kRowScales>(v[1], c.scale.y, upper, up, c.bias.y)},
              {scaled<kRowScales>(v[2], c.scale.x, lower, low, c.bias.x),
               scaled<kRowScales>(v[3], c.scale.y, lower, low, c.bias.y)}};
    if constexpr (T::kRowAdd) {
      const float2 r = *reinterpret_cast<const float2*>(columns + (2 + block) * T::kBn + chunk * 8 +
                                                        lane % 4 * 2);
      add(q, r, r);
    }
    return q;
  }

  // What a chunk needs of its columns. Read ahead of the stores of the chunk before, which the
  // compiler lets no load of shared memory pass.
  struct ChunkColumns {
    PairOfColumns value;
    PairOfColumns gate;
  };
  [[nodiscard]] __device__ __forceinline__ ChunkColumns read_columns(int chunk) const {
    ChunkColumns c;
    c.value = columns_of(chunk);
    if constexpr (T::kForm == Form::kGeglu) c.gate = columns_of(chunk + kGate);
    return c;
  }

  template <bool kRowScales>
  __device__ __forceinline__ Quad value(const Acc (&acc)[T::kBn / 2], const ChunkColumns& c,
                                        int block, int chunk) const {
    Quad q = linear<kRowScales>(acc, c.value, block, chunk);
    if constexpr (T::kForm == Form::kGeglu) {
      const Quad gate = linear<kRowScales>(acc, c.gate, block, chunk + kGate);
      q.upper.x *= gelu<T::kRequantize>(gate.upper.x);
      q.upper.y *= gelu<T::kRequantize>(gate.upper.y);
      q.lower.x *= gelu<T::kRequantize>(gate.lower.x);
      q.lower.y *= gelu<T::kRequantize>(gate.lower.y);
    } else if constexpr (T::kForm == Form::kActivated) {
      const Activation activation = T::kScaled ? kActivation : args.epilogue.activation;
      q.upper.x = activate<T::kRequantize>(q.upper.x, activation);
      q.upper.y = activate<T::kRequantize>(q.upper.y, activation);
      q.lower.x = activate<T::kRequantize>(q.lower.x, activation);
      q.lower.y = activate<T::kRequantize>(q.lower.y, activation);
    }
    return q;
  }

  // All that is decided at run time is a form of its own: a branch inside would keep the compiler
  // from interleaving chunks, and the products of statistics, passed over by predicates, would wait
  // for the tensor cores all the same. `measured`: what is made of the words of each block.
  template <bool kRowScales, bool kResidual, class Measure, int kFirst, int kEnd, int kFirstBlock,
            int kEndBlock>
  __device__ __forceinline__ void write16(const Acc (&acc)[T::kBlocks][T::kBn / 2],
                                          Measure (&measured)[T::kBlocks]) const {
    const int row = warp * 16 + lane % 16;
    ChunkColumns ahead[2] = {read_columns(kFirst), read_columns(kFirst + 1)};
#pragma unroll
    for (int chunk = kFirst; chunk < kEnd; chunk += 2) {
      const ChunkColumns of[2] = {ahead[0], ahead[1]};
      if (chunk + 2 < kEnd) {
        ahead[0] = read_columns(chunk + 2);
        ahead[1] = read_columns(chunk + 3);
      }
      const uint32_t place = staging + staged_pair<T>(row, lane / 16, chunk);
#pragma unroll
      for (int block = kFirstBlock; block < kEndBlock; ++block) {
        const uint32_t address = place + block * 64 * T::kOutRowBytes;
        Quad q[2] = {value<kRowScales>(acc[block], of[0], block, chunk),
                     value<kRowScales>(acc[block], of[1], block, chunk + 1)};
        uint32_t words[4];
        if constexpr (kResidual) {
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
        measure(measured[block], words, block, chunk);
      }
    }
  }

  // Blocks of 8-bit operands together, as they share what is read of the columns and hide each
  // other's waiting; what normalized rows need besides leaves no registers for that.
  template <bool kRowScales, bool kResidual, class Measure, int kFirst, int kEnd>
  __device__ __forceinline__ void write16_blocks(const Acc (&acc)[T::kBlocks][T::kBn / 2],
                                                 Measure (&measured)[T::kBlocks]) const {
    if constexpr (T::kScaled || T::kBlocks == 1) {
      write16<kRowScales, kResidual, Measure, kFirst, kEnd, 0, T::kBlocks>(acc, measured);
    } else {
      static_assert(T::kBlocks == 2);
      write16<kRowScales, kResidual, Measure, kFirst, kEnd, 0, 1>(acc, measured);
      write16<kRowScales, kResidual, Measure, kFirst, kEnd, 1, 2>(acc, measured);
    }
  }

  // Of two chunks.
  struct Nothing {};
  __device__ __forceinline__ void measure(Nothing& /*none*/, const uint32_t (&/*words*/)[4],
                                          int /*block*/, int /*chunk*/) const {}
  __device__ __forceinline__ void measure(RowsAmax<T::kOut>& rows_amax, const uint32_t (&words)[4],
                                          int /*block*/, int /*chunk*/) const {
    rows_amax.add(words);
  }
  // A slot that they complete is written.
  __device__ __forceinline__ void measure(SlotSums<T::kOut>& slot, const uint32_t (&words)[4],
                                          int block, int chunk) const {
    constexpr int kSlotChunks = kStatisticsColumns / 8;
    slot.add(words);
    if ((chunk + 2) % kSlotChunks != 0) return;
    slot.write(args, at.m + block * 64 + warp * 16 + lane / 4, at.n + (chunk + 2 - kSlotChunks) * 8,
               lane);
    slot = {};
    __syncwarp();
  }

  // Of all chunks.
  template <class Measure>
  __device__ __forceinline__ void end_measure(const Measure (&measured)[T::kBlocks]) const {
    if constexpr (std::is_same_v<Measure, RowsAmax<T::kOut>>) {
#pragma unroll
      for (int block = 0; block < T::kBlocks; ++block) {
        const uint32_t of_warp =
            measured[block].of_warp(args, at.m + block * 64 + warp * 16 + lane / 4);
        if (lane == 0) store_word(amax + block * 16 + warp * 4, of_warp);
      }
    }
  }

  // Gated values have been multiplied by 1 / y_scale with their columns.
  template <bool kRowScales, int kFirst, int kEnd>
  __device__ __forceinline__ void write8(const Acc (&acc)[T::kBlocks][T::kBn / 2]) const {
    const int row = warp * 16 + lane / 4;
    const float factor = T::kForm == Form::kGeglu ? 1.0f : inverse_y;
    ChunkColumns ahead = read_columns(kFirst);
#pragma unroll
    for (int chunk = kFirst; chunk < kEnd; ++chunk) {
      const ChunkColumns of = ahead;
      if (chunk + 1 < kEnd) ahead = read_columns(chunk + 1);
      const uint32_t column = chunk % 2 * 8 + lane % 4 * 2;
#pragma unroll
      for (int block = 0; block < T::kBlocks; ++block) {
        const uint32_t base = staging + block * 64 * T::kOutRowBytes + column;
        const Quad q = value<kRowScales>(acc[block], of, block, chunk);
        store_codes(base + staged<T>(row, chunk / 2), q.upper, factor);
        store_codes(base + staged<T>(row + 8, chunk / 2), q.lower, factor);
      }
    }
  }
  static __device__ __forceinline__ void store_codes(uint32_t address, float2 v, float factor) {
    const auto codes = static_cast<uint16_t>(pack<T::kOut>(v.x * factor, v.y * factor));
    asm volatile("st.shared.b16 [%0], %1;" ::"r"(address), "h"(codes));
  }

  // `half_way` runs when half of the sums have been used up and their registers are free.
  template <bool kRowScales, bool kResidual, class Measure, class F>
  __device__ __forceinline__ void write_form(const Acc (&acc)[T::kBlocks][T::kBn / 2],
                                             F half_way) const {
    constexpr int kChunks = T::kOutN / 8;
    constexpr int kHalf = T::kFirstChunks;
    if constexpr (T::kRequantize) {
      write8<kRowScales, 0, kHalf>(acc);
      half_way();
      write8<kRowScales, kHalf, kChunks>(acc);
    } else {
      Measure measured[T::kBlocks];
      write16_blocks<kRowScales, kResidual, Measure, 0, kHalf>(acc, measured);
      half_way();
      write16_blocks<kRowScales, kResidual, Measure, kHalf, kChunks>(acc, measured);
      end_measure(measured);
    }
  }

  template <bool kRowScales, class Measure, class F>
  __device__ __forceinline__ void write_residual_or_not(const Acc (&acc)[T::kBlocks][T::kBn / 2],
                                                        F half_way) const {
    if constexpr (!T::kRequantize && !(T::kScaled && T::kForm == Form::kActivated)) {
      if (args.epilogue.residual) {
        write_form<kRowScales, true, Measure>(acc, half_way);
        return;
      }
    }
    write_form<kRowScales, false, Measure>(acc, half_way);
  }

  template <class F>
  __device__ __forceinline__ void write(const Acc (&acc)[T::kBlocks][T::kBn / 2],
                                        F half_way) const {
    if constexpr (T::kScaled && !T::kAmax) {
      if (args.epilogue.row_scale_step != 0) {
        write_residual_or_not<true, Nothing>(acc, half_way);
        return;
      }
    }
    if constexpr (kMeasuresRows<T>) {
      if (args.epilogue.y_statistics != nullptr) {
        write_residual_or_not<false, SlotSums<T::kOut>>(acc, half_way);
        return;
      }
    }
    using Always = std::conditional_t<T::kAmax, RowsAmax<T::kOut>, Nothing>;
    write_residual_or_not<false, Always>(acc, half_way);
  }
};

}  // namespace halftone::backend::cuda::hopper
