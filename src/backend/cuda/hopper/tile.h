// Shape of one kernel of the family and the division of shared memory that follows from it.
#pragma once

#include "backend/cuda/hopper/gemm_args.h"

namespace halftone::backend::cuda::hopper {

// How accumulators leave: as they are (with an activation chosen at run time), or gated. With GEGLU
// the two halves of a tile are rows n.. and N + n.. of the weight, the output has half the columns.
inline constexpr int kThreads = 384;  // of a block: one producer and two consumer warpgroups

enum class Form : uint8_t { kPlain, kActivated, kGeglu };

// kPingPong: the two consumer warpgroups take tiles in turn, the epilogue of one hides behind the
// main loop of the other. Else they share a tile. kPromote: K steps between additions of an fp8
// accumulator to the fp32 sum (0: never; the sum doubles the registers).
template <Element kInT, Element kOutT, Form kFormT, bool kConvT, int kBmT, int kBnT, int kRowBytesT,
          int kClusterT, bool kPingPongT, int kPromoteT>
struct Tile {
  static constexpr Element kIn = kInT;
  static constexpr Element kOut = kOutT;
  static constexpr Form kForm = kFormT;
  static constexpr bool kConv = kConvT;
  static constexpr int kBm = kBmT;
  static constexpr int kBn = kBnT;
  static constexpr int kRowBytes = kRowBytesT;  // of K in a stage
  static constexpr int kCluster = kClusterT;    // row tiles that share a weight tile
  static constexpr bool kPingPong = kPingPongT;
  static constexpr int kPromote = kPromoteT;
  static constexpr bool kRowAdd = kConv;               // who can take a time embedding
  static constexpr bool kScaled = bytes_of(kIn) == 1;  // has row and column scales
  static constexpr bool kRequantize = bytes_of(kOut) == 1;
  // Can stand for a layer norm and a linear; its columns' sums take the place of column scales.
  static constexpr bool kNormalizes = !kConv && !kScaled;
  // Scales of rows are read before the main loop: merging statistics takes long.
  static constexpr bool kRowsFirst = !kPingPong || kNormalizes;

  static constexpr int kK = kRowBytes / bytes_of(kIn);
  static constexpr int kBlocks = kPingPong ? kBm / 64 : kBm / 128;  // 64-row blocks of a consumer
  static constexpr int kOutN = kForm == Form::kGeglu ? kBn / 2 : kBn;
  static constexpr int kOutRowBytes = kOutN * bytes_of(kOut);
  // The output is staged in column panels as wide as the copy engine can swizzle.
  static constexpr int kPanelBytes = kOutRowBytes % 128 == 0  ? 128
                                     : kOutRowBytes % 64 == 0 ? 64
                                     : kOutRowBytes % 32 == 0 ? 32
                                                              : kOutRowBytes;
  static constexpr int kPanels = kOutRowBytes / kPanelBytes;
  static constexpr int kPanelColumns = kPanelBytes / bytes_of(kOut);

  static constexpr int kStageBytes = (kBm + kBn) * kRowBytes;
  static constexpr int kStagingBytes = kBlocks * 64 * kOutRowBytes;          // of one consumer
  static constexpr int kColumnFloats = kBn * (2 + (kRowAdd ? kBlocks : 0));  // of one consumer
  static constexpr int kStaging = 2 * kStagingBytes + 2 * kColumnFloats * 4;
  static constexpr int kMaxShared = 227 * 1024;
  static constexpr int kFit = (kMaxShared - kStaging - 256) / kStageBytes;
  static constexpr int kStages = kFit > 8 ? 8 : kFit;
  static constexpr int kBarriers = kStages * kStageBytes + kStaging;  // their offset
  static constexpr int kSharedBytes = kBarriers + 256;

  static_assert(kPingPong ? kBm % 64 == 0 : kBm % 128 == 0);
  static_assert(kBn % 16 == 0 && (kBn / 2) % 8 == 0);
  static_assert(kStages >= 2);
  static_assert(!kPingPong || kPromote == 0);  // no registers for a second set of sums
  static_assert(kStageBytes % 1024 == 0 && kStagingBytes % 1024 == 0);
};

}  // namespace halftone::backend::cuda::hopper
