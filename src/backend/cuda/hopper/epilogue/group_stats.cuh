// Statistics of groups of channels in 64-row blocks of a staged output tile: what a group norm of
// the output would need (graph/ops/group_norm.h).
#pragma once

#include "backend/cuda/hopper/epilogue/epilogue.cuh"

namespace halftone::backend::cuda::hopper {

// How the threads of a warpgroup divide a block. Eight of them read 128 bytes that lie in a row of
// banks: kRows rows of a panel. Panels have kLanes such teams, which take the panel's rows in turn.
template <class T>
struct GroupTeams {
  static constexpr int kTeams = 16;
  static constexpr int kChunks = T::kPanelBytes / 16;  // 16-byte chunks of a panel's row
  static constexpr int kTileChunks = kChunks * T::kPanels;
  static constexpr int kRows = 8 / kChunks;
  static constexpr int kLanes = kTeams / T::kPanels;
  static constexpr int kStep = kRows * kLanes;  // rows between a thread's
  static constexpr int kRounds = (64 + kStep - 1) / kStep;
  // The teams of a warp share a panel: one result a warp, else one a team.
  static constexpr bool kOfWarp = kLanes % 4 == 0;
  static constexpr int kSlots = kOfWarp ? kLanes / 4 : kLanes;
  static constexpr int kScratchFloats = kSlots * kTileChunks * 4;
};

// Tiles that can: the columns' place in shared memory takes what threads pass on.
template <class T>
inline constexpr bool kMeasuresGroups =
    bytes_of(T::kOut) == 2 && T::kForm
                                  == Form::kPlain&& T::kPanels
                                         <= GroupTeams<T>::kTeams&& GroupTeams<T>::kScratchFloats
                                         <= T::kColumnFloats;

template <class T>
__device__ __forceinline__ float staged_value(uint32_t block, int row, int column) {
  uint16_t bits;
  asm volatile("ld.shared.u16 %0, [%1];"
               : "=h"(bits)
               : "r"(block + staged<T>(row, column / 8) + column % 8 * 2));
  return unpack<T::kOut>(bits).x;
}

// Sums of deviations from a value of the group and of their squares: of the group in which a chunk
// of eight columns begins and, where another begins inside it, of that one.
struct ChunkSums {
  float2 first = {0.0f, 0.0f};
  float2 second = {0.0f, 0.0f};
};

// `split`: columns of the chunk that belong to its first group (8 or more: all).
template <class T>
__device__ __forceinline__ ChunkSums chunk_sums(uint32_t block, int chunk, int row, int split,
                                                float first_shift, float second_shift) {
  constexpr int kInFlight = 4;
  constexpr int kStep = GroupTeams<T>::kStep;
  float sum[8] = {};
  float square[8] = {};
#pragma unroll
  for (int round = 0; round < GroupTeams<T>::kRounds; round += kInFlight) {
    uint4 words[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      if (round + i >= GroupTeams<T>::kRounds) continue;
      const int at = min(row + (round + i) * kStep, 63);
      asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                   : "=r"(words[i].x), "=r"(words[i].y), "=r"(words[i].z), "=r"(words[i].w)
                   : "r"(block + staged<T>(at, chunk)));
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      if (round + i >= GroupTeams<T>::kRounds || row + (round + i) * kStep >= 64) continue;
      const uint32_t pairs[4] = {words[i].x, words[i].y, words[i].z, words[i].w};
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const float2 v = unpack<T::kOut>(pairs[k]);
        const float even = v.x - (2 * k < split ? first_shift : second_shift);
        const float odd = v.y - (2 * k + 1 < split ? first_shift : second_shift);
        sum[2 * k] += even;
        sum[2 * k + 1] += odd;
        square[2 * k] = fmaf(even, even, square[2 * k]);
        square[2 * k + 1] = fmaf(odd, odd, square[2 * k + 1]);
      }
    }
  }
  ChunkSums sums;
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    const bool in_first = k < split;
    sums.first.x += in_first ? sum[k] : 0.0f;
    sums.first.y += in_first ? square[k] : 0.0f;
    sums.second.x += in_first ? 0.0f : sum[k];
    sums.second.y += in_first ? 0.0f : square[k];
  }
  return sums;
}

// The sums of all threads that read the same chunk, in those that read its first rows.
template <class T>
__device__ __forceinline__ void add_teams(ChunkSums& sums) {
  constexpr int kEnd = GroupTeams<T>::kOfWarp ? 32 : 8;
#pragma unroll
  for (int d = GroupTeams<T>::kChunks; d < kEnd; d *= 2) {
    sums.first.x += __shfl_xor_sync(0xffffffffU, sums.first.x, d);
    sums.first.y += __shfl_xor_sync(0xffffffffU, sums.first.y, d);
    sums.second.x += __shfl_xor_sync(0xffffffffU, sums.second.x, d);
    sums.second.y += __shfl_xor_sync(0xffffffffU, sums.second.y, d);
  }
}

// Mean and squared deviations of a group of the tile from what the threads passed on.
template <class T>
__device__ __forceinline__ float2 merge_group(uint32_t block, const float4* scratch, int group,
                                              int width) {
  const int begin = group * width;
  float sum = 0.0f;
  float square = 0.0f;
  for (int chunk = begin / 8; chunk * 8 < begin + width; ++chunk) {
    const bool begins_inside = chunk * 8 < begin;
#pragma unroll
    for (int slot = 0; slot < GroupTeams<T>::kSlots; ++slot) {
      const float4 part = scratch[slot * GroupTeams<T>::kTileChunks + chunk];
      sum += begins_inside ? part.z : part.x;
      square += begins_inside ? part.w : part.y;
    }
  }
  const float mean = sum / static_cast<float>(64 * width);
  return {staged_value<T>(block, 0, begin) + mean, fmaxf(fmaf(-mean, sum, square), 0.0f)};
}

// By all threads of a consumer warpgroup, behind a barrier that follows the last write of the
// staging area and the last read of `scratch`; `sync` is the warpgroup's barrier and the last thing
// done. A group has 4 columns or at least 8, and tiles hold whole groups.
template <class T, class Sync>
__device__ __forceinline__ void write_group_statistics(const KernelArgs& args, uint32_t staging,
                                                       float4* scratch, TilePosition at, int thread,
                                                       Sync sync) {
  using Teams = GroupTeams<T>;
  const EpilogueArgs& e = args.epilogue;
  int width = e.group_columns;
  asm volatile("" : "+r"(width));  // as the thread
  const int team = thread / 8;
  const int panel = Teams::kOfWarp ? team / Teams::kLanes : team % T::kPanels;
  const int lane = Teams::kOfWarp ? team % Teams::kLanes : team / T::kPanels;
  const int chunk = panel * Teams::kChunks + thread % Teams::kChunks;
  const int group = chunk * 8 / width;
  const int split = (group + 1) * width - chunk * 8;
  const bool is_writer =
      Teams::kOfWarp ? thread % 32 < Teams::kChunks : thread % 8 < Teams::kChunks;
  const int slot = Teams::kOfWarp ? lane / 4 : lane;
#pragma unroll 1
  for (int i = 0; i < T::kBlocks; ++i) {
    const int m = at.m + i * 64;
    if (m >= args.m) break;
    const uint32_t block = staging + i * 64 * T::kOutRowBytes;
    ChunkSums sums;
    if (lane < Teams::kLanes) {
      const int row = lane * Teams::kRows + thread % 8 / Teams::kChunks;
      const float first = staged_value<T>(block, 0, group * width);
      const float second = split < 8 ? staged_value<T>(block, 0, (group + 1) * width) : 0.0f;
      sums = chunk_sums<T>(block, chunk, row, split, first, second);
    }
    add_teams<T>(sums);
    if (is_writer && lane < Teams::kLanes) {
      scratch[slot * Teams::kTileChunks + chunk] =
          make_float4(sums.first.x, sums.first.y, sums.second.x, sums.second.y);
    }
    sync();
    if (thread < min(T::kOutN, args.n - at.n) / width) {
      const int image = m / e.rows_per_image;
      const int pieces = e.rows_per_image / 64;
      const int piece = m / 64 - image * pieces;
      const int64_t to = int64_t{image} * (args.n / width) + at.n / width + thread;
      reinterpret_cast<float2*>(e.group_statistics)[to * pieces + piece] =
          merge_group<T>(block, scratch, thread, width);
    }
    sync();
  }
}

}  // namespace halftone::backend::cuda::hopper
