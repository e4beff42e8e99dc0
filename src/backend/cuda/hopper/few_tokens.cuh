// Kernels for few tokens, few_tokens.h. One tile a block: a producer warp keeps a ring of stages
// (64 terms of the block's channels and of all tokens) full through the copy engine, each consumer
// warpgroup has 64 channels. Then every block of the cluster sends the others their tokens' sums
// (st.async, counted by an mbarrier that is used once), adds up those of its own tokens in the
// order of the blocks, and writes them. Nothing arrives at a block that it does not wait for, so
// blocks leave on their own.
//
// Weights of 8 bits come as codes; their warpgroup unpacks them into the registers from which the
// tensor cores take them, a half of a stage while they multiply the other.
#pragma once

#include <optional>
#include <vector>

#include "backend/cuda/hopper/epilogue/math.cuh"
#include "backend/cuda/hopper/few_tokens.h"
#include "backend/cuda/hopper/mma/wgmma.cuh"
#include "backend/cuda/hopper/ptx/barrier.cuh"
#include "backend/cuda/hopper/ptx/tma.cuh"
#include "backend/cuda/plain/unpack.cuh"

namespace halftone::backend::cuda::hopper {

// The kernels for weights of 8 bits, few_tokens_codes.cu.
void append_few_tokens_codes(std::vector<FewTokensKernel>& all);

namespace {

constexpr int kRowBytes = 2 * kFewTokensTerms;  // of x in a stage

// Tokens are shared out in eights, the columns of one fragment.
template <Element kElementT, Element kWeightT, int kTokensT, int kWarpgroupsT, int kSplitT>
struct Few {
  static constexpr Element kElement = kElementT;
  static constexpr Element kWeight = kWeightT;
  static constexpr bool kCodes = bytes_of(kWeight) == 1;
  static constexpr int kTokens = kTokensT;
  static constexpr int kWarpgroups = kWarpgroupsT;
  static constexpr int kSplit = kSplitT;
  static constexpr int kConsumers = 128 * kWarpgroups;
  static constexpr int kThreadCount = kConsumers + 32;
  static constexpr int kChannels = 64 * kWarpgroups;
  // A block alone with its terms takes part of its warpgroups where the channels are shared out so.
  static constexpr bool kAlone = kSplit == 1;
  // Products of 16 terms that are unpacked at once; a block of many warps has few registers.
  static constexpr int kTogether = kAlone ? 1 : 2;
  static constexpr int kWeightRowBytes = kFewTokensTerms * bytes_of(kWeight);
  static constexpr int kWeightBytes = kChannels * kWeightRowBytes;
  static constexpr int kStageBytes = kWeightBytes + kTokens * kRowBytes;
  static constexpr int kEights = kTokens / 8;
  static constexpr int kMostEights = (kEights + kSplit - 1) / kSplit;  // of one block
  // Block `of` ends the eights first(of) .. first(of + 1).
  static __host__ __device__ constexpr int first(int of) { return kEights * of / kSplit; }
  static __host__ __device__ constexpr int owner(int eight) {
    return (kSplit * (eight + 1) - 1) / kEights;
  }
  // Rows of 8 tokens that a thread's 16 bytes of y are taken from, 16 a pass.
  static constexpr int kPasses = (kMostEights + 1) / 2;
  static constexpr int kPitch = 64 + 4;  // floats of a staged token: no two lanes on one bank
  static constexpr int kStagingBytes = kMostEights * 8 * kPitch * 4;  // of one warpgroup
  static constexpr int kPartialBytes = (kSplit - 1) * kMostEights * kConsumers * 16;
  // Short rings leave room for two blocks on an SM: one reads its weights while the other ends.
  static constexpr int kBlocksOfSm = kTokens * kWarpgroups <= 160 ? 2 : 1;
  static_assert(kTokens % 16 == 0 && kTokens <= kMostTokens && kSplit <= 8);
  static_assert(kStageBytes % 1024 == 0 && (!kCodes || kTokens % 80 == 0));
};

struct Ring {
  uint32_t data;
  uint32_t barriers;
  [[nodiscard]] __device__ uint32_t full(int stage) const { return barriers + stage * 16; }
  [[nodiscard]] __device__ uint32_t empty(int stage) const { return barriers + stage * 16 + 8; }
  [[nodiscard]] __device__ uint32_t partials() const { return barriers + kFewTokensStages * 16; }
};

// Arrival of this block's threads at the cluster's barrier, and the wait for it, which only what is
// sent to other blocks needs.
__device__ __forceinline__ void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory");
}
__device__ __forceinline__ void cluster_wait() {
  asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
}
__device__ __forceinline__ void prefetch_2d(const CUtensorMap* map, int x, int y) {
  asm volatile("cp.async.bulk.prefetch.tensor.2d.L2.global [%0, {%1, %2}];" ::"l"(map), "r"(x),
               "r"(y)
               : "memory");
}
__device__ __forceinline__ void store_float(uint32_t to, float v) {
  asm volatile("st.shared.f32 [%0], %1;" ::"r"(to), "f"(v) : "memory");
}
// Sums of the tensor cores as ordinary values: without it ptxas waits for each product (C7514).
__device__ __forceinline__ void hold(float& v) { asm volatile("" : "+f"(v)); }

// Which part of the product a block has.
template <class T>
struct Part {
  int rank;     // in the cluster
  int channel;  // first
  int step;     // first
  int steps;
  int warpgroups = T::kWarpgroups;  // that have channels

  __device__ __forceinline__ explicit Part(const FewTokensArgs& args)
      : rank(T::kAlone ? 0 : static_cast<int>(cluster_rank())),
        channel(static_cast<int>(blockIdx.x) / T::kSplit * T::kChannels),
        step(args.steps * rank / T::kSplit),
        steps(args.steps * (rank + 1) / T::kSplit - step) {
    if constexpr (T::kAlone) {
      const int all = (args.n + 63) / 64;
      const auto block = static_cast<int>(blockIdx.x);
      const auto blocks = static_cast<int>(gridDim.x);
      const int first = all * block / blocks;
      channel = first * 64;
      warpgroups = all * (block + 1) / blocks - first;
    }
  }
  [[nodiscard]] __device__ __forceinline__ int stage_bytes() const {
    return T::kStageBytes - (T::kWarpgroups - warpgroups) * 64 * T::kWeightRowBytes;
  }
  [[nodiscard]] __device__ __forceinline__ int first_eight() const { return T::first(rank); }
  [[nodiscard]] __device__ __forceinline__ int eights() const {
    return T::first(rank + 1) - T::first(rank);
  }
};

template <class T>
__device__ __forceinline__ void prepare_barriers(const FewTokensArgs& args, const Ring& ring,
                                                 const Part<T>& part) {
#pragma unroll 1
  for (int stage = 0; stage < args.stages; ++stage) {
    barrier_init(ring.full(stage), 1);
    barrier_init(ring.empty(stage), 4 * part.warpgroups);
  }
  barrier_init(ring.partials(), 1);
  fence_barrier_init();
  if constexpr (!T::kAlone) {
    barrier_expect(ring.partials(), (T::kSplit - 1) * part.eights() * T::kConsumers * 16);
  }
}

// Weights of step `i` of the block into `stage`, which is announced with its share of x.
template <class T>
__device__ __forceinline__ void load_weights(const FewTokensArgs& args, const Ring& ring,
                                             const Part<T>& part, int i, int stage) {
  const uint32_t data = ring.data + stage * T::kStageBytes;
  const int term = (part.step + i) * kFewTokensTerms;
  barrier_expect(ring.full(stage), part.stage_bytes());
  if constexpr (T::kAlone) {
#pragma unroll 1
    for (int w = 0; w < part.warpgroups; ++w) {
      load_2d(data + w * 64 * T::kWeightRowBytes, &args.w, ring.full(stage), term,
              part.channel + w * 64);
    }
  } else {
    load_2d(data, &args.w, ring.full(stage), term, part.channel);
  }
}

// Weights of the first stages into the ring, those of the other steps into the second level cache:
// nothing that the kernel before this one writes is read. Returns for how many steps. A block alone
// with its terms has too many: what it asks for now, its x would wait for.
template <class T>
__device__ __forceinline__ int load_weights_ahead(const FewTokensArgs& args, const Ring& ring,
                                                  const Part<T>& part) {
  if (!args.constant_weights) return 0;
  const int ahead = min(args.stages, part.steps);
#pragma unroll 1
  for (int i = 0; i < ahead; ++i) load_weights(args, ring, part, i, i);
  if constexpr (!T::kAlone) {
#pragma unroll 1
    for (int i = ahead; i < part.steps; ++i) {
      prefetch_2d(&args.w, (part.step + i) * kFewTokensTerms, part.channel);
    }
  }
  return ahead;
}

template <class T>
__device__ __forceinline__ void produce(const FewTokensArgs& args, const Ring& ring,
                                        const Part<T>& part, int ahead) {
  wait_for_previous_kernel();
  int stage = 0;
  uint32_t phase = 0;
#pragma unroll 1
  for (int i = 0; i < part.steps; ++i) {
    if (i >= ahead) {
      barrier_wait(ring.empty(stage), phase ^ 1);
      load_weights(args, ring, part, i, stage);
    }
    load_2d(ring.data + stage * T::kStageBytes + T::kWeightBytes, &args.x, ring.full(stage),
            (part.step + i) * kFewTokensTerms, 0);
    if (++stage == args.stages) {
      stage = 0;
      phase ^= 1;
    }
  }
}

// Eight neighbours of a vector whose address is a multiple of 16 bytes, as they lie in memory.
struct Eight {
  uint4 low = {0, 0, 0, 0};
  uint4 high = {0, 0, 0, 0};  // of f32

  __device__ __forceinline__ void read(const void* base, Element element, int at) {
    const auto* from =
        reinterpret_cast<const uint4*>(static_cast<const uint8_t*>(base) + at * bytes_of(element));
    low = from[0];
    if (element == Element::kF32) high = from[1];
  }
  __device__ __forceinline__ void values(Element element, float (&v)[8]) const {
    const uint32_t words[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
    if (element == Element::kF32) {
#pragma unroll
      for (int i = 0; i < 8; ++i) v[i] = __uint_as_float(words[i]);
      return;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 pair = element == Element::kF16 ? unpack<Element::kF16>(words[i])
                                                   : unpack<Element::kBF16>(words[i]);
      v[2 * i] = pair.x;
      v[2 * i + 1] = pair.y;
    }
  }
};

// One choice for eight values: chosen for each, it would be most of the kernel's code.
__device__ __forceinline__ void activate_eight(float (&v)[8], Activation activation) {
  with_activation(activation, [&](auto chosen) {
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = activate<false>(v[i], chosen());
  });
}

// What a thread needs to end its share of y: 8 channels of each 16th token. Read before the
// products, so that nobody waits for it, where a thread has registers to hold it.
template <class T>
struct Ending {
  int channel;
  int token;  // of y; the next pass has the 16th behind it
  bool inside;
  Eight bias;
  Eight scale;  // of codes
  uint4 residual[T::kPasses];

  __device__ __forceinline__ Ending(const FewTokensArgs& args, const Part<T>& part, int warpgroup,
                                    int thread)
      : channel(part.channel + warpgroup * 64 + thread % 8 * 8),
        token(part.first_eight() * 8 + thread / 8),
        inside(channel < args.n) {
    if (inside && args.bias != nullptr) bias.read(args.bias, args.bias_element, channel);
    if (T::kCodes && inside) scale.read(args.scale, Element::kF32, channel);
#pragma unroll
    for (int pass = 0; pass < T::kPasses; ++pass) {
      residual[pass] = {0, 0, 0, 0};
      if (args.residual != nullptr && has(args, part, pass)) {
        const auto* row = static_cast<const uint16_t*>(args.residual) +
                          int64_t{token + pass * 16} * args.residual_pitch;
        residual[pass] = *reinterpret_cast<const uint4*>(row + channel);
      }
    }
  }
  [[nodiscard]] __device__ __forceinline__ bool has(const FewTokensArgs& args, const Part<T>& part,
                                                    int pass) const {
    const int at = token + pass * 16;
    return inside && at < args.m && at < T::first(part.rank + 1) * 8;
  }

  __device__ __forceinline__ void finish(const FewTokensArgs& args, float (&v)[8],
                                         const float (&factor)[8], const float (&added)[8],
                                         int pass) const {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      v[i] = __fadd_rn(T::kCodes ? __fmul_rn(v[i], factor[i]) : v[i], added[i]);
    }
    activate_eight(v, args.activation);
    const uint32_t words[4] = {residual[pass].x, residual[pass].y, residual[pass].z,
                               residual[pass].w};
    uint32_t out[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 r =
          args.residual != nullptr ? unpack<T::kElement>(words[i]) : float2{0.0f, 0.0f};
      out[i] = pack<T::kElement>(__fadd_rn(v[2 * i], r.x), __fadd_rn(v[2 * i + 1], r.y));
    }
    auto* row =
        static_cast<uint16_t*>(args.y) + int64_t{token + pass * 16} * args.y_pitch + channel;
    *reinterpret_cast<uint4*>(row) = {out[0], out[1], out[2], out[3]};
  }

  // `staged`: tokens of this block with 64 channels of this warpgroup, f32.
  __device__ __forceinline__ void write(const FewTokensArgs& args, const Part<T>& part,
                                        uint32_t staged, int thread) const {
    float factor[8];
    scale.values(Element::kF32, factor);
    float added[8];
    bias.values(args.bias_element, added);
#pragma unroll
    for (int pass = 0; pass < T::kPasses; ++pass) {
      if (!has(args, part, pass)) continue;
      const int local = thread / 8 + pass * 16;
      uint32_t words[2][4];
      const uint32_t from = staged + (local * T::kPitch + thread % 8 * 8) * 4;
      load_shared(from, words[0]);
      load_shared(from + 16, words[1]);
      float v[8];
#pragma unroll
      for (int i = 0; i < 8; ++i) v[i] = __uint_as_float(words[i / 4][i % 4]);
      finish(args, v, factor, added, pass);
    }
  }
};

// Eight values of a vector over the channels, or nothing, into the second level cache: a fetch
// reads nothing too early.
__device__ __forceinline__ void prefetch_eight(const void* vector, Element element, int channel) {
  if (vector == nullptr) return;
  const auto* at = static_cast<const uint8_t*>(vector) + channel * bytes_of(element);
  asm volatile("prefetch.global.L2 [%0];" ::"l"(at));
}
// What 64 channels add and are multiplied by.
template <class T>
__device__ __forceinline__ void prefetch_vectors(const FewTokensArgs& args, int channel,
                                                 int thread) {
  channel += thread * 8;
  if (thread >= 8 || channel >= args.n) return;
  prefetch_eight(args.bias, args.bias_element, channel);
  if constexpr (T::kCodes) prefetch_eight(args.scale, Element::kF32, channel);
}

// Two codes in the lower half of `word` as 16-bit values.
template <class T>
__device__ __forceinline__ uint32_t unpack_codes(uint32_t word) {
  constexpr DType kType = T::kElement == Element::kF16 ? DType::kF16 : DType::kBF16;
  if constexpr (T::kWeight == Element::kS8) {
    return unpacking::lone_bytes<kType>(word);
  } else if constexpr (kType == DType::kF16) {
    uint32_t both;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(both) : "h"(static_cast<uint16_t>(word)));
    return both;
  } else {
    return unpacking::two_f8_bytes<kType, 0>(word);
  }
}

// A warpgroup's 64 channels of codes in a stage: rows of 64 bytes, swizzled over as much. A thread
// has the pairs that a fragment wants of it, each a read; lanes of eight rows lie in different
// banks.
template <class T>
struct CodeTile {
  static constexpr int kEight = 8 * T::kWeightRowBytes;  // rows
  uint32_t offset;                                       // of the thread's first pair, in a stage

  __device__ __forceinline__ CodeTile(int warpgroup, int thread) {
    static_assert(T::kWeightRowBytes == 64);
    const int row = warpgroup * 64 + thread / 32 * 16 + thread % 32 / 4;
    offset = row * T::kWeightRowBytes + (row / 2 % 4) * 16 + thread % 4 * 2;
  }
  // Those of 16 terms, the `part`-th of four.
  __device__ __forceinline__ void read(uint32_t data, int part, uint32_t (&pairs)[4]) const {
    const uint32_t at = (data + offset) ^ (part * 16);
    pairs[0] = load_pair(at);
    pairs[1] = load_pair(at + kEight);
    pairs[2] = load_pair(at + 8);
    pairs[3] = load_pair(at + kEight + 8);
  }
  static __device__ __forceinline__ uint32_t load_pair(uint32_t from) {
    uint16_t pair;
    asm volatile("ld.shared.u16 %0, [%1];" : "=h"(pair) : "r"(from) : "memory");
    return pair;
  }
};

// Named barriers: 1 on are those of each warpgroup.
constexpr int kAllConsumers = 15;

// One consumer warpgroup.
template <class T>
struct Consumer {
  const FewTokensArgs& args;
  const Ring& ring;
  const Part<T>& part;
  uint32_t partials;
  int warpgroup;
  int thread;

  using Fragments = uint32_t[T::kTogether][4];

  // Some products of a stage of codes, from its kFirst-th on, unpacked while the tensor cores have
  // those before. When the latter are done, so is what used `a` last.
  template <int kFirst>
  __device__ __forceinline__ void multiply_some(const CodeTile<T>& tile, uint32_t data,
                                                Fragments& a, float (&acc)[T::kTokens / 2]) const {
    const uint64_t x = operand_descriptor<kRowBytes>(data + T::kWeightBytes);
#pragma unroll
    for (int k = 0; k < T::kTogether; ++k) tile.read(data, kFirst + k, a[k]);
#pragma unroll
    for (int k = 0; k < T::kTogether; ++k) {
#pragma unroll
      for (uint32_t& word : a[k]) word = unpack_codes<T>(word);
    }
    wgmma_begin();
#pragma unroll
    for (int k = 0; k < T::kTogether; ++k) {
#pragma unroll
      for (int tokens = 0; tokens < T::kTokens; tokens += 80) {
        auto& sums = *reinterpret_cast<float(*)[40]>(acc + tokens / 2);
        WgmmaRegisters80<T::kElement>::mma(sums, a[k],
                                           x + tokens * kRowBytes / 16 + 2 * (kFirst + k), 1);
      }
    }
    wgmma_commit();
    wgmma_wait<1>();
  }
  __device__ __forceinline__ void multiply_codes(float (&acc)[T::kTokens / 2]) const {
    const CodeTile<T> tile(warpgroup, thread);
    int stage = 0;
    uint32_t phase = 0;
    int previous = -1;
#pragma unroll 1
    for (int step = 0; step < part.steps; ++step) {
      const uint32_t data = ring.data + stage * T::kStageBytes;
      barrier_wait(ring.full(stage), phase);
      Fragments even;
      Fragments odd;
      multiply_some<0>(tile, data, even, acc);
      if (previous >= 0) release(previous);
      multiply_some<T::kTogether>(tile, data, odd, acc);
      if constexpr (T::kTogether == 1) {
        multiply_some<2>(tile, data, even, acc);
        multiply_some<3>(tile, data, odd, acc);
      }
      previous = stage;
      if (++stage == args.stages) {
        stage = 0;
        phase ^= 1;
      }
    }
    wgmma_wait<0>();
  }

  __device__ __forceinline__ void multiply(float (&acc)[T::kTokens / 2]) const {
    using Mma = Wgmma<T::kElement, T::kTokens>;
    int stage = 0;
    uint32_t phase = 0;
    int previous = -1;
#pragma unroll 1
    for (int step = 0; step < part.steps; ++step) {
      const uint32_t data = ring.data + stage * T::kStageBytes;
      barrier_wait(ring.full(stage), phase);
      const uint64_t w = operand_descriptor<kRowBytes>(data + warpgroup * 64 * kRowBytes);
      const uint64_t x = operand_descriptor<kRowBytes>(data + T::kWeightBytes);
      wgmma_begin();
#pragma unroll
      for (int k = 0; k < kRowBytes / 32; ++k) Mma::mma(acc, w + 2 * k, x + 2 * k, 1);
      wgmma_commit();
      wgmma_wait<1>();
      if (previous >= 0) release(previous);
      previous = stage;
      if (++stage == args.stages) {
        stage = 0;
        phase ^= 1;
      }
    }
    wgmma_wait<0>();
  }
  __device__ __forceinline__ void release(int stage) const {
    if (thread % 32 == 0) barrier_arrive(ring.empty(stage));
  }

  [[nodiscard]] static __device__ __forceinline__ uint32_t place_of(int slot, int eight) {
    return (slot * T::kMostEights + eight) * T::kConsumers * 16;
  }
  // Sends the sums of tokens that other blocks end and keeps those of this block's.
  __device__ __forceinline__ void share_out(const float (&acc)[T::kTokens / 2],
                                            float (&own)[T::kMostEights][4]) const {
    const uint32_t mine = partials + (warpgroup * 128 + thread) * 16;
#pragma unroll
    for (int eight = 0; eight < T::kEights; ++eight) {
      const int owner = T::owner(eight);
      const int place = eight - T::first(owner);
      if (owner == part.rank) {
#pragma unroll
        for (int i = 0; i < 4; ++i) own[place][i] = acc[eight * 4 + i];
      } else {
        const int slot = part.rank < owner ? part.rank : part.rank - 1;
        const uint32_t words[4] = {
            __float_as_uint(acc[eight * 4]), __float_as_uint(acc[eight * 4 + 1]),
            __float_as_uint(acc[eight * 4 + 2]), __float_as_uint(acc[eight * 4 + 3])};
        hopper::store_remote(address_in_block(mine + place_of(slot, place), owner),
                             address_in_block(ring.partials(), owner), words);
      }
    }
  }
  // In the order of the blocks, whoever adds up: a token's bits do not depend on its place.
  __device__ __forceinline__ void add_up(float (&own)[T::kMostEights][4]) const {
    const uint32_t mine = partials + (warpgroup * 128 + thread) * 16;
#pragma unroll
    for (int eight = 0; eight < T::kMostEights; ++eight) {
      if (eight >= part.eights()) continue;
      uint32_t sent[T::kSplit][4];
#pragma unroll
      for (int slot = 0; slot + 1 < T::kSplit; ++slot) {
        load_shared(mine + place_of(slot, eight), sent[slot]);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float sum = 0.0f;
#pragma unroll
        for (int r = 0; r < T::kSplit; ++r) {
          float v = own[eight][i];
          if (r > 0 && r > part.rank) v = __uint_as_float(sent[r > 0 ? r - 1 : 0][i]);
          if (r + 1 < T::kSplit && r < part.rank) v = __uint_as_float(sent[r][i]);
          sum = r == 0 ? v : __fadd_rn(sum, v);
        }
        own[eight][i] = sum;
      }
    }
  }
  // Fragments, channels down and tokens across, to rows of tokens.
  __device__ __forceinline__ void stage(uint32_t staged,
                                        const float (&own)[T::kMostEights][4]) const {
    const int channel = thread / 32 * 16 + thread % 32 / 4;
    const uint32_t to = staged + (thread % 4 * 2 * T::kPitch + channel) * 4;
#pragma unroll
    for (int eight = 0; eight < T::kMostEights; ++eight) {
      if (eight >= part.eights()) continue;
      const uint32_t at = to + eight * 8 * T::kPitch * 4;
      store_float(at, own[eight][0]);
      store_float(at + T::kPitch * 4, own[eight][1]);
      store_float(at + 32, own[eight][2]);
      store_float(at + T::kPitch * 4 + 32, own[eight][3]);
    }
  }

  // Of the tokens that this block ends, over all terms.
  __device__ __forceinline__ void sum(float (&own)[T::kMostEights][4]) const {
    float acc[T::kTokens / 2];
#pragma unroll
    for (int i = 0; i < T::kTokens / 2; ++i) {
      acc[i] = 0.0f;
      hold(acc[i]);
    }
    if constexpr (T::kCodes) {
      multiply_codes(acc);
    } else {
      multiply(acc);
    }
#pragma unroll
    for (int i = 0; i < T::kTokens / 2; ++i) hold(acc[i]);
    if constexpr (!T::kAlone) cluster_wait();
    share_out(acc, own);
    // A warp's own products are done, with this all of the block's (each warp waits for a quarter
    // of a product only): the ring becomes the staging area.
    named_sync(kAllConsumers, part.warpgroups * 128);
    if constexpr (!T::kAlone) {
      barrier_wait_cluster(ring.partials(), 0);
      add_up(own);
    }
  }
  __device__ __forceinline__ void end(const float (&own)[T::kMostEights][4],
                                      const Ending<T>& ending) const {
    const uint32_t staged = ring.data + warpgroup * T::kStagingBytes;
    stage(staged, own);
    named_sync(1 + warpgroup, 128);
    ending.write(args, part, staged, thread);
  }

  __device__ __forceinline__ void run() const {
    float own[T::kMostEights][4] = {};
    if constexpr (T::kAlone) {
      sum(own);
      end(own, Ending<T>(args, part, warpgroup, thread));
    } else {
      const Ending<T> ending(args, part, warpgroup, thread);
      sum(own);
      end(own, ending);
    }
  }
};

template <class T>
__global__ void __launch_bounds__(T::kThreadCount, T::kBlocksOfSm)
    few_tokens_kernel(const __grid_constant__ FewTokensArgs args) {
  extern __shared__ __align__(1024) uint8_t shared[];
  const uint32_t base = shared_address(shared);
  const Ring ring{base, base + args.barriers};
  // Through a shuffle: the compiler then keeps operands' addresses in uniform registers.
  const int warpgroup = __shfl_sync(0xFFFFFFFFU, static_cast<int>(threadIdx.x) / 128, 0);
  const Part<T> part(args);
  int ahead = 0;
  if (threadIdx.x == T::kConsumers) {
    prefetch_map(&args.w);
    prefetch_map(&args.x);
    prepare_barriers(args, ring, part);
    ahead = load_weights_ahead(args, ring, part);
  }
  __syncthreads();
  if constexpr (!T::kAlone) cluster_arrive();
  let_next_kernel_start();
  if (warpgroup == T::kWarpgroups) {
    if (threadIdx.x == T::kConsumers) produce(args, ring, part, ahead);
    __syncwarp();
    if constexpr (!T::kAlone) cluster_wait();
  } else if (warpgroup < part.warpgroups) {
    const int thread = static_cast<int>(threadIdx.x) % 128;
    prefetch_vectors<T>(args, part.channel + warpgroup * 64, thread);
    wait_for_previous_kernel();
    Consumer<T>{args, ring, part, base + args.partials, warpgroup, thread}.run();
  }
}

template <Element kElement, Element kWeight, int kTokens, int kWarpgroups, int kSplit>
FewTokensKernel instance(int fewest_terms) {
  using T = Few<kElement, kWeight, kTokens, kWarpgroups, kSplit>;
  return {kElement,         T::kCodes ? std::optional(kWeight) : std::nullopt,
          kTokens,          kWarpgroups,
          kSplit,           fewest_terms,
          T::kStageBytes,   T::kStagingBytes * kWarpgroups,
          T::kPartialBytes, reinterpret_cast<const void*>(&few_tokens_kernel<T>)};
}

}  // namespace
}  // namespace halftone::backend::cuda::hopper
