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
  // The teams of a warp share a panel: one result a warp, else one a team.
  static constexpr bool kOfWarp = kLanes % 4 == 0;
  static constexpr int kSlots = kOfWarp ? kLanes / 4 : kLanes;
  static constexpr int kScratchFloats = kSlots * kTileChunks * 4;
};

// Tiles that can: the columns' place in shared memory takes what threads pass on.
template <class T>
inline constexpr bool kMeasuresGroups = (bytes_of(T::kOut) == 2) && (T::kForm == Form::kPlain) &&
                                        (T::kSplit == 1) && !T::kAmax &&
                                        (T::kPanels <= GroupTeams<T>::kTeams) &&
                                        (GroupTeams<T>::kScratchFloats <= T::kColumnFloats);

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
#pragma unroll 1
  for (int from = row; from < 64; from += kInFlight * kStep) {
    uint4 words[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                   : "=r"(words[i].x), "=r"(words[i].y), "=r"(words[i].z), "=r"(words[i].w)
                   : "r"(block + staged<T>(min(from + i * kStep, 63), chunk)));
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      if (from + i * kStep >= 64) break;
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

// Deviations of a group of the tile and their squares, summed up of what the threads passed on by
// eight of them.
template <class T>
__device__ __forceinline__ float2 merge_group(const float4* scratch, int begin, int width,
                                              int lane) {
  float sum = 0.0f;
  float square = 0.0f;
  for (int chunk = begin / 8 + lane; chunk * 8 < begin + width; chunk += 8) {
    const bool begins_inside = chunk * 8 < begin;
#pragma unroll
    for (int slot = 0; slot < GroupTeams<T>::kSlots; ++slot) {
      const float4 part = scratch[slot * GroupTeams<T>::kTileChunks + chunk];
      sum += begins_inside ? part.z : part.x;
      square += begins_inside ? part.w : part.y;
    }
  }
#pragma unroll
  for (int d = 1; d < 8; d *= 2) {
    sum += __shfl_xor_sync(0xffffffffU, sum, d);
    square += __shfl_xor_sync(0xffffffffU, square, d);
  }
  return {sum, square};
}

// What the threads passed on of a block becomes statistics in global memory.
template <class T>
__device__ __forceinline__ void store_groups(const KernelArgs& args, uint32_t block,
                                             const float4* scratch, int m, int n, int thread) {
  const EpilogueArgs& e = args.epilogue;
  const int width = e.group_columns;
  const auto group_of = [&](int column) {
    return static_cast<int>(__umulhi(static_cast<uint32_t>(column), e.group_inverse));
  };
  const int image = m / e.rows_per_image;
  const int pieces = e.rows_per_image / 64;
  const int groups = group_of(min(T::kOutN, args.n - n));
  auto* to = reinterpret_cast<float2*>(e.group_statistics) +
             (int64_t{image} * e.groups + group_of(n)) * pieces + m / 64 - image * pieces;
  for (int first = 0; first < groups; first += 16) {  // eight threads each
    const int group = first + thread / 8;
    const int begin = group < groups ? group * width : 0;
    const float shift = staged_value<T>(block, 0, begin);
    const float2 sums = merge_group<T>(scratch, begin, width, thread % 8);
    const float mean = sums.x / static_cast<float>(64 * width);
    if (group < groups && thread % 8 == 0) {
      to[int64_t{group} * pieces] = {shift + mean, fmaxf(fmaf(-mean, sums.x, sums.y), 0.0f)};
    }
  }
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
  const auto group = static_cast<int>(__umulhi(static_cast<uint32_t>(chunk * 8), e.group_inverse));
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
    store_groups<T>(args, block, scratch, m, at.n, thread);
    sync();
  }
}

}  // namespace halftone::backend::cuda::hopper
