// y = epilogue(x W^T), linear or implicit-GEMM convolution, with quantized weights that are
// unpacked on their way to the tensor cores (mma.sync). A block makes a tile; copies of 16 bytes
// fill a ring of stages. In a slice of 128 bytes of a row of x thread t of four takes the bytes
// from 32 t on and the weight's codes of the same terms: the sum does not mind that these are not
// the terms that the instruction numbers so, and both are whole words of shared memory. Warps may
// split the terms between them, and the blocks of a cluster too; partial sums are added in a fixed
// order.
#pragma once

#include <algorithm>
#include <array>
#include <type_traits>

#include "backend/cuda/launch.h"
#include "backend/cuda/plain/codes.cuh"
#include "backend/cuda/plain/epilogue.cuh"
#include "backend/cuda/plain/mma.cuh"
#include "backend/cuda/plain/mma_args.h"
#include "backend/cuda/plain/overlap.cuh"
#include "backend/cuda/plain/unpack.cuh"

namespace halftone::backend::cuda {

template <DType kXT, Codes kCodesT, MmaTile kTileT, bool kConvT>
struct MmaShape {
  static constexpr DType kX = kXT;
  static constexpr Codes kCodes = kCodesT;
  static constexpr bool kConv = kConvT;
  static constexpr bool kLarge = kTileT == MmaTile::k128x128;
  static constexpr int kBm = rows_of(kTileT);
  static constexpr int kBn = columns_of(kTileT);
  // Warps along rows, columns and terms.
  static constexpr int kWarpsM = kLarge ? 2 : 1;
  static constexpr int kWarpsN = kLarge ? 4 : 2;
  static constexpr int kWarpsK = kLarge ? 1 : 2;
  static constexpr int kThreads = 32 * kWarpsM * kWarpsN * kWarpsK;
  // Products of a warp: 16 columns of y (the rows of the instruction) by eight rows. In that
  // orientation both operands are registers as they come: x from one read, codes from unpacking.
  static constexpr int kColumns16 = kBn / kWarpsN / 16;
  static constexpr int kRows8 = kBm / kWarpsM / 8;
  static constexpr int kRowsAtOnce = kRows8 % 5 == 0 ? 5 : kRows8 % 4 == 0 ? 4 : 2;
  using Sum = std::conditional_t<kX == DType::kI8, int, float>;

  static constexpr int kSliceBytes = 128;  // of a row of x
  static constexpr int kTerms = kSliceBytes / static_cast<int>(size_of(kX));
  static constexpr int kCodeBytes = kTerms * bits_of(kCodes) / 8;  // of a row of the weight
  static constexpr int kXTile = kBm * kSliceBytes;
  static constexpr int kSlice = kXTile + kBn * kCodeBytes;
  static constexpr int kStage = kWarpsK * kSlice;
  static constexpr int kStages = kLarge && kCodeBytes < kSliceBytes ? 4 : 3;
  static constexpr int kPitch = kBn + 4;  // of a row of sums: a warp's lie in different banks
  static constexpr int kShared =
      std::max(kStages * kStage, kBm* kPitch* static_cast<int>(sizeof(Sum)));
  static_assert(kWarpsK <= 2 && kWarpsK * kSliceBytes == step_bytes_of(kTileT));
  static_assert(kShared <= 227 * 1024 / 2);  // two blocks on an SM
};

// A 16-byte piece of a 128-byte row of shared memory: eight rows' lie in different banks.
__device__ __forceinline__ int swizzled(int row, int piece) { return (piece ^ (row & 7)) * 16; }

// The rows of x from which one thread copies a piece each. Rows behind the last are copies of it:
// nobody looks at what they give.
template <class T>
class RowCopies {
 public:
  __device__ __forceinline__ RowCopies(const QuantizedMatrixArgs& m, int64_t first_row, int thread)
      : m_(m), row_(thread / 8), piece_(thread % 8) {
    const auto* x = static_cast<const uint8_t*>(m.x.data);
    const int64_t pixels = m.out_h * m.out_w;
    const int64_t row_bytes = m.in * kBytes;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const int64_t row = min(first_row + row_ + i * kApart, m.n * pixels - 1);
      if constexpr (T::kConv) {
        const int64_t image = row / pixels;
        const auto pixel = static_cast<int>(row - image * pixels);
        const auto out_w = static_cast<int>(m.out_w);
        top_[i] = static_cast<int>(pixel / out_w * m.stride - m.pad);
        left_[i] = static_cast<int>(pixel % out_w * m.stride - m.pad);
        from_[i] = x + image * m.h * m.w * row_bytes;
      } else {
        from_[i] = x + row * row_bytes;
      }
    }
  }

  // Slice `slice` of K to a tile in shared memory.
  __device__ __forceinline__ void copy(int slice, uint8_t* tile) const {
    const int row_bytes = static_cast<int>(m_.in) * kBytes;
    int at = slice * T::kSliceBytes + piece_ * 16;
    uint8_t* to = tile + row_ * T::kSliceBytes + swizzled(row_, piece_);  // kApart rows on alike
    if constexpr (T::kConv) {
      const int tap = at / row_bytes;
      at -= tap * row_bytes;
      const auto kernel_w = static_cast<int>(m_.kernel_w);
      const int tap_h = tap / kernel_w;
      const int tap_w = tap - tap_h * kernel_w;
      const bool has_tap = tap_h < static_cast<int>(m_.kernel_h);
      const auto height = static_cast<unsigned>(m_.h);
      const auto width = static_cast<unsigned>(m_.w);
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        const int h = top_[i] + tap_h;
        const int w = left_[i] + tap_w;
        const bool inside = has_tap && static_cast<unsigned>(h) < height &&
                            static_cast<unsigned>(w) < width;  // not negative either
        const int64_t pixel = inside ? h * static_cast<int>(width) + w : 0;
        copy_async(to + i * kApart * T::kSliceBytes, from_[i] + pixel * row_bytes + at, inside);
      }
    } else {
      const bool inside = at < row_bytes;
      const int offset = inside ? at : 0;
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        copy_async(to + i * kApart * T::kSliceBytes, from_[i] + offset, inside);
      }
    }
  }

 private:
  static constexpr int kBytes = static_cast<int>(size_of(T::kX));
  static constexpr int kApart = T::kThreads / 8;
  static constexpr int kRows = T::kBm / kApart;
  static_assert(T::kBm % kApart == 0 && kApart % 8 == 0);

  const QuantizedMatrixArgs& m_;
  int row_;
  int piece_;
  const uint8_t* from_[kRows];  // rows of x; of a convolution, images
  int top_[T::kConv ? kRows : 1];
  int left_[T::kConv ? kRows : 1];
};

// The rows of the weight that make a tile's columns, a piece of each; with GEGLU the second half
// are the gates. Columns behind the last are copies of it.
template <class T>
class CodeCopies {
 public:
  __device__ __forceinline__ CodeCopies(const MmaMatrixArgs& a, int64_t first_column, int terms,
                                        int thread)
      : row_bytes_(terms * bits_of(T::kCodes) / 8), thread_(thread) {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int row = (i * T::kThreads + thread) / kPieces % T::kBn;
      const bool gate = a.epilogue.geglu && row >= T::kBn / 2;
      const int64_t column = min(first_column + row - (gate ? T::kBn / 2 : 0), a.epilogue.cols - 1);
      from_[i] = static_cast<const uint8_t*>(a.matrix.weight) +
                 (column + (gate ? a.epilogue.cols : 0)) * row_bytes_;
    }
  }

  __device__ __forceinline__ void copy(int slice, uint8_t* tile) const {
    const int piece = thread_ % kPieces;
    const int at = slice * T::kCodeBytes + piece * 16;
    const bool inside = at < row_bytes_;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int row = (i * T::kThreads + thread_) / kPieces;
      if (kAll % T::kThreads != 0 && row >= T::kBn) break;
      const int place = kPieces == 8 ? swizzled(row, piece) : piece * 16;
      copy_async(tile + row * T::kCodeBytes + place, from_[i] + (inside ? at : 0), inside);
    }
  }

 private:
  static constexpr int kPieces = T::kCodeBytes / 16;
  static constexpr int kAll = T::kBn * kPieces;
  static constexpr int kCopies = (kAll + T::kThreads - 1) / T::kThreads;

  int row_bytes_;
  int thread_;
  const uint8_t* from_[kCopies];
};

// A warp's products of one slice.
template <class T>
struct WarpProducts {
  typename T::Sum sums[T::kColumns16][T::kRows8][4] = {};

  // Codes of thread t for column `column`.
  static __device__ __forceinline__ void read_codes(
      const uint8_t* tile, int column, int t, uint32_t (&codes)[kCodeWords<T::kX, T::kCodes>]) {
    constexpr int kWords = kCodeWords<T::kX, T::kCodes>;
    const uint8_t* row = tile + column * T::kCodeBytes;
    static_assert(kWords <= 4);
    if constexpr (kWords == 4) {
      const uint4 v = *reinterpret_cast<const uint4*>(row + t * 16);
      codes[0] = v.x, codes[1] = v.y, codes[2] = v.z, codes[3] = v.w;
    } else if constexpr (kWords == 2) {
      const uint2 v = *reinterpret_cast<const uint2*>(row + t * 8);
      codes[0] = v.x, codes[1] = v.y;
    } else {
      codes[0] = *reinterpret_cast<const uint32_t*>(row + t * 4);
    }
  }

  // Codes that are operands as they lie: both come by matrices, in the order of the terms.
  __device__ __forceinline__ void add_matrices(const uint8_t* slice, int first_row,
                                               int first_column, int lane) {
    const uint8_t* codes = slice + T::kXTile;
    const int row = lane % 8;  // what this thread names; rows 8 on swizzle alike
    const int matrix = lane / 8;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      uint32_t a[T::kColumns16][2][4];
#pragma unroll
      for (int c = 0; c < T::kColumns16; ++c) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          load_matrices(codes + (first_column + c * 16 + matrix % 2 * 8 + row) * T::kSliceBytes +
                            swizzled(row, 4 * half + 2 * j + matrix / 2),
                        a[c][j]);
        }
      }
#pragma unroll
      for (int r = 0; r < T::kRows8; ++r) {
        uint32_t words[4];
        load_matrices(
            slice + (first_row + r * 8 + row) * T::kSliceBytes + swizzled(row, 4 * half + matrix),
            words);
#pragma unroll
        for (int j = 0; j < 2; ++j) {
#pragma unroll
          for (int c = 0; c < T::kColumns16; ++c) {
            multiply<T::kX>(sums[c][r], a[c][j], words[2 * j], words[2 * j + 1]);
          }
        }
      }
    }
  }

  // Two products deep: the words of x that one read brings.
  template <int kHalf>
  __device__ __forceinline__ void add_half(
      const uint8_t* x, int first_row, int g, int t,
      const uint32_t (&codes)[2 * T::kColumns16][kCodeWords<T::kX, T::kCodes>]) {
    uint32_t a[T::kColumns16][2][4];
#pragma unroll
    for (int c = 0; c < T::kColumns16; ++c) {
      uint32_t upper[4];
      uint32_t lower[4];
      unpack<T::kX, T::kCodes, kHalf>(codes[2 * c], upper);
      unpack<T::kX, T::kCodes, kHalf>(codes[2 * c + 1], lower);
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        a[c][j][0] = upper[2 * j], a[c][j][1] = lower[2 * j];
        a[c][j][2] = upper[2 * j + 1], a[c][j][3] = lower[2 * j + 1];
      }
    }
    const uint8_t* at = x + (first_row + g) * T::kSliceBytes + swizzled(g, 2 * t + kHalf);
#pragma unroll
    for (int first = 0; first < T::kRows8; first += T::kRowsAtOnce) {
      uint4 words[T::kRowsAtOnce];
#pragma unroll
      for (int r = 0; r < T::kRowsAtOnce; ++r) {
        words[r] = *reinterpret_cast<const uint4*>(at + (first + r) * 8 * T::kSliceBytes);
      }
#pragma unroll
      for (int j = 0; j < 2; ++j) {
#pragma unroll
        for (int r = 0; r < T::kRowsAtOnce; ++r) {
#pragma unroll
          for (int c = 0; c < T::kColumns16; ++c) {
            multiply<T::kX>(sums[c][first + r], a[c][j], j == 0 ? words[r].x : words[r].z,
                            j == 0 ? words[r].y : words[r].w);
          }
        }
      }
    }
  }

  __device__ __forceinline__ void add(const uint8_t* slice, int first_row, int first_column,
                                      int lane) {
    if constexpr (T::kCodeBytes == T::kSliceBytes) {
      add_matrices(slice, first_row, first_column, lane);
    } else {
      const int g = lane / 4;
      const int t = lane % 4;
      uint32_t codes[2 * T::kColumns16][kCodeWords<T::kX, T::kCodes>];
#pragma unroll
      for (int n = 0; n < 2 * T::kColumns16; ++n) {
        read_codes(slice + T::kXTile, first_column + n * 8 + g, t, codes[n]);
      }
      add_half<0>(slice, first_row, g, t, codes);
      add_half<1>(slice, first_row, g, t, codes);
    }
  }

  // Calls f with each sum and its place in a tile of them.
  template <class F>
  __device__ __forceinline__ void for_each(typename T::Sum* tile, int first_row, int first_column,
                                           int lane, F f) {
    typename T::Sum* mine = tile + (first_row + lane % 4 * 2) * T::kPitch + first_column + lane / 4;
#pragma unroll
    for (int c = 0; c < T::kColumns16; ++c) {
#pragma unroll
      for (int r = 0; r < T::kRows8; ++r) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          f(sums[c][r][i], mine + (r * 8 + i % 2) * T::kPitch + c * 16 + i / 2 * 8);
        }
      }
    }
  }

  // The sums of all warps to shared memory that nothing else uses any more; the first warps add
  // those of the warps that had other terms.
  __device__ __forceinline__ void publish(typename T::Sum* tile, int warp_k, int first_row,
                                          int first_column, int lane) {
    using Sum = typename T::Sum;
    const auto write = [](Sum& sum, Sum* at) { *at = sum; };
    if constexpr (T::kWarpsK == 2) {
      if (warp_k == 1) for_each(tile, first_row, first_column, lane, write);
      __syncthreads();
      if (warp_k == 0) {
        for_each(tile, first_row, first_column, lane, [](Sum& sum, Sum* at) { *at = sum + *at; });
      }
    } else {
      for_each(tile, first_row, first_column, lane, write);
    }
  }
};

// --- the blocks of a cluster

// Meets all threads of the cluster: what they wrote to shared memory is seen by the others.
__device__ __forceinline__ void meet_cluster() {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "barrier.cluster.arrive.release;\n"
      "barrier.cluster.wait.acquire;\n" ::
          : "memory");
#endif
}

// kWidth sums from shared memory: the block's own, or (`remote`) those at the same place in block
// `rank`.
template <int kWidth, class Sum>
__device__ __forceinline__ void read_sums(const Sum* at, bool remote, int rank, Sum (&v)[kWidth]) {
  constexpr int kTogether = kWidth % 4 == 0 ? 4 : 1;
  uint32_t words[kWidth];
#if __CUDA_ARCH__ >= 900
  if (remote) {
    uint32_t address;
    asm("mapa.shared::cluster.u32 %0, %1, %2;"
        : "=r"(address)
        : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(at))), "r"(rank));
#pragma unroll
    for (int i = 0; i < kWidth; i += kTogether) {
      if constexpr (kTogether == 4) {
        asm volatile("ld.shared::cluster.v4.b32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(words[i]), "=r"(words[i + 1]), "=r"(words[i + 2]), "=r"(words[i + 3])
                     : "r"(address + 4 * i));
      } else {
        asm volatile("ld.shared::cluster.b32 %0, [%1];" : "=r"(words[i]) : "r"(address + 4 * i));
      }
    }
  } else
#endif
  {
#pragma unroll
    for (int i = 0; i < kWidth; i += kTogether) {
      if constexpr (kTogether == 4) {
        const uint4 four = *reinterpret_cast<const uint4*>(at + i);
        words[i] = four.x, words[i + 1] = four.y, words[i + 2] = four.z, words[i + 3] = four.w;
      } else {
        words[i] = *reinterpret_cast<const uint32_t*>(at + i);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    if constexpr (std::is_same_v<Sum, int>) {
      v[i] = static_cast<int>(words[i]);
    } else {
      v[i] = __uint_as_float(words[i]);
    }
  }
}

// Scaled sums, bias and row add of columns `col`.. of the weight's rows; `at` is where a block's
// sums lie.
template <class T, int kWidth>
__device__ __forceinline__ void read_h(const MmaMatrixArgs& a, const typename T::Sum* at,
                                       int splits, int64_t row, int64_t col, float (&v)[kWidth]) {
  float scale[kWidth];
  load(a.matrix.weight_scale, DType::kF32, col, scale);
  if (a.matrix.x_scale != nullptr) {
    const float of_row = a.matrix.x_scale[row / a.matrix.rows_per_scale];
#pragma unroll
    for (int k = 0; k < kWidth; ++k) scale[k] = __fmul_rn(of_row, scale[k]);
  }
  typename T::Sum total[kWidth] = {};
  if (splits == 1) {
    read_sums(at, false, 0, total);
  } else {
    constexpr int kAtOnce = 4;  // reads on their way
    for (int first = 0; first < splits; first += kAtOnce) {
      typename T::Sum more[kAtOnce][kWidth];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        read_sums(at, true, min(first + i, splits - 1), more[i]);
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
#pragma unroll
        for (int k = 0; k < kWidth; ++k) total[k] += first + i < splits ? more[i][k] : 0;
      }
    }
  }
#pragma unroll
  for (int k = 0; k < kWidth; ++k) {
    if constexpr (T::kX == DType::kI8) {
      v[k] = __fmul_rn(static_cast<float>(total[k] >> extra_bits(T::kX, T::kCodes)), scale[k]);
    } else {
      v[k] = __fmul_rn(total[k], scale[k]);
    }
  }
  add_bias(a.epilogue, row, col, a.epilogue.geglu ? 2 * a.epilogue.cols : a.epilogue.cols, v);
}

// The block's share of the tile: from sums in shared memory to y.
template <class T, int kWidth>
__device__ __forceinline__ void finish(const MmaMatrixArgs& a, const typename T::Sum* sums,
                                       int64_t first_row, int64_t first_column, int rank,
                                       int splits) {
  const EpilogueArgs& e = a.epilogue;
  const int columns = e.geglu ? T::kBn / 2 : T::kBn;
  const int per_row = columns / kWidth;
  for (int i = rank * T::kThreads + static_cast<int>(threadIdx.x); i < T::kBm * per_row;
       i += splits * T::kThreads) {
    const int r = i / per_row;
    const int c = (i - r * per_row) * kWidth;
    const int64_t row = first_row + r;
    const int64_t col = first_column + c;
    if (row >= e.rows || col >= e.cols) continue;
    const typename T::Sum* at = sums + r * T::kPitch + c;
    float v[kWidth];
    read_h<T>(a, at, splits, row, col, v);
    if (e.geglu) {
      float gate[kWidth];
      read_h<T>(a, at + columns, splits, row, col + e.cols, gate);
#pragma unroll
      for (int k = 0; k < kWidth; ++k) v[k] = __fmul_rn(v[k], gelu_erf(gate[k]));
    } else {
#pragma unroll
      for (int k = 0; k < kWidth; ++k) v[k] = activate(e.act, v[k]);
    }
    add_residual(e, row, col, v);
    if (a.y_scale != nullptr) {
      store_codes(e.y.data, row * e.cols + col, a.y_format, v, inverse_of(*a.y_scale));
    } else {
      store(e.y.data, e.y.dtype, row * e.cols + col, v);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(T::kThreads, 2)
    mma_matrix_kernel(const __grid_constant__ MmaMatrixArgs a) {
  extern __shared__ __align__(128) uint8_t mma_shared[];
  const auto thread = static_cast<int>(threadIdx.x);
  const auto rank = static_cast<int>(blockIdx.x);
  const int64_t first_row = static_cast<int64_t>(blockIdx.y) * T::kBm;
  const int64_t first_column =
      static_cast<int64_t>(blockIdx.z) * (a.epilogue.geglu ? T::kBn / 2 : T::kBn);
  const QuantizedMatrixArgs& m = a.matrix;
  const auto terms = static_cast<int>(m.kernel_h * m.kernel_w * m.in);
  constexpr int kStepTerms = T::kWarpsK * T::kTerms;
  const int all_steps = (terms + kStepTerms - 1) / kStepTerms;
  const int begin = all_steps * rank / a.splits;
  const int steps = all_steps * (rank + 1) / a.splits - begin;
  const CodeCopies<T> codes(a, first_column, terms, thread);
  const auto copy_codes = [&](int step, uint8_t* stage) {
#pragma unroll
    for (int k = 0; k < T::kWarpsK; ++k) {
      codes.copy((begin + step) * T::kWarpsK + k, stage + k * T::kSlice + T::kXTile);
    }
  };
  const int first_steps = min(steps, T::kStages - 1);
  if (a.constant_weight) {
    for (int step = 0; step < first_steps; ++step) copy_codes(step, mma_shared + step * T::kStage);
  }
  const RowCopies<T> rows(m, first_row, thread);
  const auto copy_rows = [&](int step, uint8_t* stage) {
#pragma unroll
    for (int k = 0; k < T::kWarpsK; ++k) {
      rows.copy((begin + step) * T::kWarpsK + k, stage + k * T::kSlice);
    }
  };
  follow_previous_kernel();
  for (int step = 0; step < T::kStages - 1; ++step) {
    if (step < steps) {
      if (!a.constant_weight) copy_codes(step, mma_shared + step * T::kStage);
      copy_rows(step, mma_shared + step * T::kStage);
    }
    commit_copies();
  }
  const int warp = thread / 32;
  const int lane = thread % 32;
  const int warp_k = warp / (T::kWarpsM * T::kWarpsN);
  const int warp_row = warp / T::kWarpsN % T::kWarpsM * T::kRows8 * 8;
  const int warp_column = warp % T::kWarpsN * T::kColumns16 * 16;
  WarpProducts<T> products;
  int full = 0;                // the stage of the step
  int empty = T::kStages - 1;  // of the step before
  for (int step = 0; step < steps; ++step) {
    wait_for_copies<T::kStages - 2>();
    __syncthreads();  // the step's copies of all threads; and all are done with the step before
    if (step + T::kStages - 1 < steps) {
      copy_codes(step + T::kStages - 1, mma_shared + empty * T::kStage);
      copy_rows(step + T::kStages - 1, mma_shared + empty * T::kStage);
    }
    commit_copies();
    products.add(mma_shared + full * T::kStage + warp_k * T::kSlice, warp_row, warp_column, lane);
    empty = full;
    if (++full == T::kStages) full = 0;
  }
  wait_for_copies<0>();
  __syncthreads();
  auto* sums = reinterpret_cast<typename T::Sum*>(mma_shared);
  products.publish(sums, warp_k, warp_row, warp_column, lane);
  const bool alone = a.splits == 1;
  alone ? __syncthreads() : meet_cluster();
  if (a.eight) {
    finish<T, 8>(a, sums, first_row, first_column, rank, a.splits);
  } else {
    finish<T, 1>(a, sums, first_row, first_column, rank, a.splits);
  }
  if (!alone) meet_cluster();  // the others may still read these sums
}

template <class T>
void launch_mma_matrix(const MmaMatrixArgs& a, cudaStream_t stream) {
  const auto* kernel = reinterpret_cast<const void*>(&mma_matrix_kernel<T>);
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, T::kShared),
        "asking for shared memory");
  const int columns = a.epilogue.geglu ? T::kBn / 2 : T::kBn;
  std::array<cudaLaunchAttribute, 2> attributes{};
  unsigned count = 0;
  if (overlaps_launches()) attributes[count++] = overlap_attribute();
  if (a.splits > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count].val.clusterDim.x = static_cast<unsigned>(a.splits);
    attributes[count].val.clusterDim.y = attributes[count].val.clusterDim.z = 1;
    ++count;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(a.splits),
                        static_cast<unsigned>((a.epilogue.rows + T::kBm - 1) / T::kBm),
                        static_cast<unsigned>((a.epilogue.cols + columns - 1) / columns));
  config.blockDim = dim3(T::kThreads);
  config.dynamicSmemBytes = T::kShared;
  config.stream = stream;
  config.attrs = attributes.data();
  config.numAttrs = count;
  void* arguments[] = {const_cast<MmaMatrixArgs*>(&a)};
  check(cudaLaunchKernelExC(&config, kernel, arguments), "launching a matrix kernel");
}

// With the tile that the arguments name; convolutions have no small one.
template <DType kX, Codes kCodes, bool kConv>
void launch_mma_tile(const MmaMatrixArgs& a, cudaStream_t stream) {
  if (a.tile == MmaTile::k128x128) {
    launch_mma_matrix<MmaShape<kX, kCodes, MmaTile::k128x128, kConv>>(a, stream);
  } else if (kConv || a.tile == MmaTile::k80x64) {
    launch_mma_matrix<MmaShape<kX, kCodes, MmaTile::k80x64, kConv>>(a, stream);
  } else if constexpr (!kConv) {
    launch_mma_matrix<MmaShape<kX, kCodes, MmaTile::k16x64, kConv>>(a, stream);
  }
}

template <bool kConv>
void launch_mma_codes(const MmaMatrixArgs& a, cudaStream_t stream) {
  const CodeFormat& format = a.matrix.weight_format;
  if (format.dtype == DType::kF8E4M3) {
    launch_mma_tile<DType::kF8E4M3, Codes::kF8, kConv>(a, stream);
  } else if (format.dtype == DType::kI8) {
    launch_mma_tile<DType::kI8, Codes::kI8, kConv>(a, stream);
  } else if (format.bits == 4) {
    launch_mma_tile<DType::kI8, Codes::kI4, kConv>(a, stream);
  } else {
    launch_mma_tile<DType::kI8, Codes::kI2, kConv>(a, stream);
  }
}

}  // namespace halftone::backend::cuda
