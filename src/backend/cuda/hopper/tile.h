// Shape of one kernel of the family and the division of shared memory that follows from it.
#pragma once

#include "backend/cuda/hopper/gemm_args.h"

namespace halftone::backend::cuda::hopper {

inline constexpr int kThreads = 384;  // of a block: one producer and two consumer warpgroups

// Of stages. Narrow tiles with 8 wait for the second level cache: 64x80 takes a tenth longer.
#ifdef HALFTONE_HOPPER_STAGES  // laboratory builds
inline constexpr int kMostStages = HALFTONE_HOPPER_STAGES;
#else
inline constexpr int kMostStages = 12;
#endif

// How accumulators leave: as they are, with an activation that the arguments name, or gated. With
// GEGLU the two halves of a tile are rows n.. and N + n.. of the weight, the output has half the
// columns.
enum class Form : uint8_t { kPlain, kActivated, kGeglu };

// kPingPong: the two consumer warpgroups take tiles in turn, the epilogue of one hides behind the
// main loop of the other. Else they share a tile. kPromote: K steps between additions of an fp8
// accumulator to the fp32 sum (0: never; the sum doubles the registers). kSplit: blocks of a
// cluster that divide the terms of one tile; each ends half of its rows. kAmax: takes the largest
// magnitudes of what it stores, always; there is one scale of x.
template <Element kInT, Element kOutT, Form kFormT, bool kConvT, int kBmT, int kBnT, int kRowBytesT,
          int kClusterT, bool kPingPongT, int kPromoteT, int kSplitT = 1, bool kAmaxT = false>
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
  static constexpr int kSplit = kSplitT;
  static constexpr bool kAmax = kAmaxT;
  static constexpr int kClusterBlocks = kCluster * kSplit;
  static constexpr bool kRowAdd = kConv;               // who can take a time embedding
  static constexpr bool kScaled = bytes_of(kIn) == 1;  // has row and column scales
  // Leaves out products with the second halves of chunks in which the channels of a tap have ended.
  static constexpr bool kHalfSteps = kConv && kScaled;
  static constexpr bool kRequantize = bytes_of(kOut) == 1;
  // Can stand for a layer norm and a linear; its columns' sums take the place of column scales.
  static constexpr bool kNormalizes = !kConv && !kScaled;

  static constexpr int kK = kRowBytes / bytes_of(kIn);
  static constexpr int kBlocks = kPingPong ? kBm / 64 : kBm / 128;  // 64-row blocks of a consumer
  static constexpr bool kSharesColumns = false;
  static constexpr int kOutN = kForm == Form::kGeglu ? kBn / 2 : kBn;
  static constexpr int kOutRowBytes = kOutN * bytes_of(kOut);
  // The output is staged in column panels as wide as the copy engine can swizzle.
  static constexpr int kPanelBytes = kOutRowBytes % 128 == 0  ? 128
                                     : kOutRowBytes % 64 == 0 ? 64
                                     : kOutRowBytes % 32 == 0 ? 32
                                                              : kOutRowBytes;
  static constexpr int kPanels = kOutRowBytes / kPanelBytes;
  static constexpr int kPanelColumns = kPanelBytes / bytes_of(kOut);

  // The epilogue goes through the columns in two parts. In 8-bit linears of several panels the
  // first is stored while the second is made.
  static constexpr int kFirstPanels = kPanels / 2;
  static constexpr bool kStoresHalves = kScaled && !kConv && kSplit == 1 && kFirstPanels > 0;
  static constexpr int kFirstChunks =
      kStoresHalves ? kFirstPanels * kPanelColumns / 8 : kOutN / 32 * 2;

  // Rows of a 64-row block that one block of the cluster ends.
  static constexpr int kEndedRows = 64 / kSplit;

  static constexpr int kStageBytes = (kBm + kBn) * kRowBytes;
  static constexpr int kStagingBytes = kBlocks * 64 * kOutRowBytes;          // of one consumer
  static constexpr int kColumnFloats = kBn * (2 + (kRowAdd ? kBlocks : 0));  // of one consumer
  // Sums of the other block for the rows that this one ends.
  static constexpr int kPartialBytes = kSplit > 1 ? kBm / kSplit* kBn * 4 : 0;
  static constexpr int kStaging = 2 * kStagingBytes + kPartialBytes + 2 * kColumnFloats * 4;
  static constexpr int kMaxShared = 227 * 1024;
  static constexpr int kBarrierBytes = 256;
  static constexpr int kFit = (kMaxShared - kStaging - kBarrierBytes) / kStageBytes;
  static constexpr int kStages = kFit > kMostStages ? kMostStages : kFit;
  // Offsets behind the stages and the staging areas.
  static constexpr int kPartial = kStages * kStageBytes + 2 * kStagingBytes;
  static constexpr int kColumns = kPartial + kPartialBytes;
  static constexpr int kBarriers = kStages * kStageBytes + kStaging;
  static constexpr int kSharedBytes = kBarriers + kBarrierBytes;

  static_assert(kPingPong ? kBm % 64 == 0 : kBm % 128 == 0);
  static_assert(kBn % 16 == 0 && (kBn / 2) % 8 == 0);
  static_assert(kStages >= 2);
  static_assert(kPromote == 0 || !kPingPong || kBn / 2 * kBlocks <= 80);  // registers
  static_assert(kSplit == 1 || (kSplit == 2 && kCluster == 1 && kPingPong && kBm == 64));
  static_assert(kStages * 16 + 48 <= kBarrierBytes);
  // As wide as a place for a tile's amax at least, so that there are as many of them.
  static_assert(!kAmax || (bytes_of(kOut) == 2 && kScaled && kOutN >= kAmaxColumns));
  static_assert(!kAmax || (!kConv && kForm != Form::kActivated && kSplit == 1));
  static_assert(kStageBytes % 1024 == 0 && kStagingBytes % 1024 == 0);
};

}  // namespace halftone::backend::cuda::hopper
