// How the blocks of a matrix kernel walk: over tiles, over the K steps of a tile, around the ring
// of stages in shared memory.
#pragma once

#include "backend/cuda/hopper/epilogue/amax.cuh"
#include "backend/cuda/hopper/epilogue/epilogue.cuh"
#include "backend/cuda/hopper/ptx/barrier.cuh"
#include "backend/cuda/hopper/tile.h"

namespace halftone::backend::cuda::hopper {

// Row tiles of clusters that are walked before the next column.
inline constexpr int kRasterRows = 8;

// Tile numbers to positions: groups of kRasterRows row tiles, inside a group down, then across.
template <class T>
struct Raster {
  int rows;     // of tiles of a cluster
  int columns;  // of tiles

  __device__ explicit Raster(const KernelArgs& args)
      : rows((args.m + T::kBm * T::kCluster - 1) / (T::kBm * T::kCluster)),
        columns((args.n + T::kOutN - 1) / T::kOutN) {}
  [[nodiscard]] __device__ int tiles() const { return rows * columns; }
  [[nodiscard]] __device__ TilePosition at(int tile, int rank) const {
    const int group = tile / (kRasterRows * columns);
    const int first = group * kRasterRows;
    const int height = min(kRasterRows, rows - first);
    const int inside = tile - group * kRasterRows * columns;
    const int row = first + inside % height;
    return {(row * T::kCluster + rank) * T::kBm, inside / height * T::kOutN};
  }
};

// The ring of stages: `full` completes when a stage's bytes have arrived, `empty` when the
// consumers of all blocks that it was multicast to are done with it.
template <class T>
struct Ring {
  uint32_t data;
  uint32_t barriers;
  [[nodiscard]] __device__ uint32_t full(int stage) const { return barriers + stage * 16; }
  [[nodiscard]] __device__ uint32_t empty(int stage) const { return barriers + stage * 16 + 8; }
  [[nodiscard]] __device__ uint32_t a(int stage) const { return data + stage * T::kStageBytes; }
  [[nodiscard]] __device__ uint32_t b(int stage) const { return a(stage) + T::kBm * T::kRowBytes; }
  // Mbarrier of a consumer's residual tile.
  [[nodiscard]] __device__ uint32_t residual(int consumer) const {
    return barriers + T::kStages * 16 + consumer * 8;
  }
  // Sums of the other block have come; and, at their sender, they have been read there.
  [[nodiscard]] __device__ uint32_t partial_full(int consumer) const {
    return residual(2 + consumer);
  }
  [[nodiscard]] __device__ uint32_t partial_empty(int consumer) const {
    return residual(4 + consumer);
  }
  // Where warps leave their largest magnitudes: tiles that take them exchange no sums.
  [[nodiscard]] __device__ uint32_t amax(int consumer) const {
    static_assert(!T::kAmax || T::kStages * 16 + 16 + 2 * kAmaxBytes<T> <= T::kBarrierBytes);
    return residual(2) + consumer * kAmaxBytes<T>;
  }
};

// A block of a cluster: which row tile it has, or which part of the terms.
template <class T>
struct BlockPlace {
  int rank = 0;
  int part = 0;

  __device__ explicit BlockPlace(int block) {
    if constexpr (T::kCluster > 1) rank = block;
    if constexpr (T::kSplit > 1) part = block;
  }
};

// A block's K steps of a tile, one chunk of a tap each.
template <class T>
struct Steps {
  int first = 0;
  int count;

  __device__ __forceinline__ Steps(const KernelArgs& args, int part)
      : count(args.chunks * args.taps) {
    if constexpr (T::kSplit > 1) {
      const int all = count;
      first = all * part / T::kSplit;
      count = all * (part + 1) / T::kSplit - first;
    }
  }
};

// Position of a K step.
struct Chunk {
  int tap;
  int chunk;

  __device__ __forceinline__ Chunk(const KernelArgs& args, int step)
      : tap(step / args.chunks), chunk(step - tap * args.chunks) {}
  // Returns whether another tap begins.
  __device__ __forceinline__ bool next(const KernelArgs& args) {
    if (++chunk != args.chunks) return false;
    chunk = 0;
    ++tap;
    return true;
  }
};

// Which K steps of a tile, as they come, are half empty: there the channels of a tap have ended in
// the first half of its last chunk. kAny: there may be such steps.
template <bool kAny>
class HalfSteps {
 public:
  HalfSteps() = default;
  // `first`: the step that comes first.
  __device__ __forceinline__ HalfSteps(const KernelArgs& args, int first)
      : chunks_(args.chunks), half_(args.conv.half_chunk), chunk_(first % args.chunks) {}
  // Returns whether the next step is one.
  [[nodiscard]] __device__ __forceinline__ bool next() {
    if constexpr (!kAny) return false;
    const bool half = chunk_ == half_;
    if (++chunk_ == chunks_) chunk_ = 0;
    return half;
  }

 private:
  int chunks_ = 1;
  int half_ = -1;  // of the chunks
  int chunk_ = 0;
};

struct RingPosition {
  int stage = 0;
  uint32_t phase = 0;
  template <class T>
  __device__ __forceinline__ void next() {
    if (++stage == T::kStages) {
      stage = 0;
      phase ^= 1;
    }
  }
  template <class T>
  __device__ __forceinline__ void skip(int steps) {
    const int at = stage + steps;
    phase ^= static_cast<uint32_t>(at / T::kStages) & 1;
    stage = at % T::kStages;
  }
};

}  // namespace halftone::backend::cuda::hopper
