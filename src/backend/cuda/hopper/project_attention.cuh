// The kernel: y = softmax(scale * q k^T) v with q = x weight^T, at most 80 keys, heads of 64
// channels. A block has 64 rows of an image a warpgroup and kHeads heads. One producer thread feeds
// a ring of stages of x and weight, as in gemm_kernel.cuh, and brings the keys and values of the
// block's heads. The sums, scaled and rounded, are the left operand of the product with the keys in
// the registers where they are.
#pragma once

#include "backend/cuda/hopper/few_keys.cuh"
#include "backend/cuda/hopper/gemm_kernel.cuh"
#include "backend/cuda/hopper/project_attention.h"

namespace halftone::backend::cuda::hopper {

// Shape of a kernel; names as those of Tile (tile.h), whose main loop it shares. Where heads are
// many, their keys and values have no place of their own: behind the last step of the products they
// come in steps of the ring, two heads each, in the place of weights.
template <Element kInT, Element kElementT, int kGroupsT, int kHeadsT, int kClusterT, int kBlocksT>
struct ProjectTile {
  static constexpr Element kIn = kInT;
  static constexpr Element kElement = kElementT;  // of q, k and v
  static constexpr int kGroups = kGroupsT;        // consumer warpgroups
  static constexpr int kHeads = kHeadsT;
  static constexpr int kCluster = kClusterT;
  static constexpr int kBlocksPerSm = kBlocksT;
  static constexpr bool kScaled = bytes_of(kIn) == 1;
  static constexpr int kBm = 64 * kGroups;
  static constexpr int kBn = kHeadDim * kHeads;
  static constexpr Form kForm = Form::kPlain;
  static constexpr bool kSharesColumns = true;
  static constexpr int kBlocks = kBn > 256 ? 2 : 1;  // of columns
  static constexpr int kRowBytes = 128;
  static constexpr int kK = kRowBytes / bytes_of(kIn);
  static constexpr int kConsumers = kGroups * 128;  // threads
  // Whether products of two heads are under way at once; otherwise registers do not suffice.
  static constexpr bool kOverlapsHeads = kHeads == 2 && kGroups < 3;
  // Of several consumers each has more registers than its share: the producer is a warpgroup then,
  // which gives up its own.
  static constexpr bool kMovesRegisters = kGroups > 1;
  static constexpr int kThreads = kConsumers + (kMovesRegisters ? 128 : 32);

  static constexpr int kStageBytes = (kBm + kBn) * kRowBytes;
  static constexpr int kPartBytes = kTextKeys * kHeadRowBytes;  // keys or values of a head
  static constexpr bool kContextInRing = kBn * kRowBytes >= 4 * kPartBytes;
  static constexpr int kContextHeads = kContextInRing ? 2 : kHeads;  // that come together
  static constexpr int kContextSteps = kContextInRing ? (kHeads + 1) / 2 : 0;
  static constexpr int kContextBytes = kContextInRing ? 0 : kHeads * 2 * kPartBytes;
  static constexpr int kSharedPerSm = 228 * 1024;
  static constexpr int kRoom = kSharedPerSm / kBlocksPerSm - 1024;
  static constexpr int kFixed = kContextBytes + kBn * 4 + 256;
  static constexpr int kFit = (kRoom - kFixed) / kStageBytes;
  static constexpr int kStages = kFit > kMostStages ? kMostStages : kFit;
  // Offsets behind the stages.
  static constexpr int kContext = kStages * kStageBytes;
  static constexpr int kColumns = kContext + kContextBytes;
  static constexpr int kBarriers = kColumns + kBn * 4;
  static constexpr int kSharedBytes = kBarriers + 256;

  // A head's result is staged where a stage had the rows of x of the same warpgroup.
  static_assert(64 * kRowBytes == kOutBytes && kStages >= 2 && kStages >= kContextSteps);
  static_assert(kStageBytes % 1024 == 0 && kPartBytes % 1024 == 0 && kStages * 16 + 8 <= 256);
};

// Keys and values of kContextHeads heads from `head` on, as many as the block has, to `to`; in a
// cluster one block brings the keys to both, the other the values.
template <class T>
__device__ __forceinline__ void load_context(const ProjectArgs& args, uint32_t to, uint32_t barrier,
                                             int head, int rank) {
  const int heads = min(T::kContextHeads, T::kHeads - head);
  const int batch = static_cast<int>(blockIdx.z);
  barrier_expect(barrier, heads * 2 * T::kPartBytes);
  for (int i = 0; i < heads; ++i) {
    const int channel = static_cast<int>(blockIdx.y) * T::kBn + (head + i) * kHeadDim;
    const uint32_t keys = to + i * 2 * T::kPartBytes;
    if constexpr (T::kCluster == 2) {
      load_3d_multicast(keys + rank * T::kPartBytes, rank == 0 ? &args.base.k : &args.base.v,
                        barrier, 3, channel, 0, batch);
    } else {
      load_3d(keys, &args.base.k, barrier, channel, 0, batch);
      load_3d(keys + T::kPartBytes, &args.base.v, barrier, channel, 0, batch);
    }
  }
}

// The barrier of keys and values that have a place of their own.
template <class T>
__device__ __forceinline__ uint32_t context_full(const Ring<T>& ring) {
  return ring.barriers + T::kStages * 16;
}

// Weights of the first stages come while the kernel before this one still runs.
template <class T>
__device__ __forceinline__ void produce(const ProjectArgs& args, const Ring<T>& ring, int rank) {
  const int column = static_cast<int>(blockIdx.y) * T::kBn;
  const int filled = min(T::kStages, args.steps);
  const auto load_weight = [&](int stage, int step) {
    barrier_expect(ring.full(stage), T::kStageBytes);
    load_weights(args, ring, stage, rank, column, step * T::kK, 0);
  };
  const int ahead = args.constant_weights ? filled : 0;
  for (int step = 0; step < ahead; ++step) load_weight(step, step);
  wait_for_previous_kernel();
  RingPosition at;
  for (int step = 0; step < args.steps; ++step) {
    if (step >= ahead) {
      barrier_wait(ring.empty(at.stage), at.phase ^ 1);
      load_weight(at.stage, step);
    }
    load_3d(ring.a(at.stage), &args.base.q, ring.full(at.stage), step * T::kK,
            static_cast<int>(blockIdx.x) * T::kBm, static_cast<int>(blockIdx.z));
    at.template next<T>();
    if (T::kContextInRing || step + 1 != filled) continue;
    load_context<T>(args, ring.data + T::kContext, context_full(ring), 0, rank);
  }
  for (int step = 0; step < T::kContextSteps; ++step) {
    barrier_wait(ring.empty(at.stage), at.phase ^ 1);
    load_context<T>(args, ring.b(at.stage), ring.full(at.stage), step * T::kContextHeads, rank);
    at.template next<T>();
  }
}

// One consumer warpgroup.
template <class T>
struct ProjectConsumer {
  using Acc = typename Accumulator<T::kIn>::Type;
  static constexpr int kSums = T::kBn / 2 / T::kBlocks;  // of a block of columns
  const ProjectArgs& args;
  const Ring<T>& ring;
  float* columns;
  int group;
  int thread;
  int lane;

  // Named barriers: 1: all consumers; 2 + group: this warpgroup.
  __device__ __forceinline__ void sync() const { named_sync(2 + group, 128); }
  [[nodiscard]] __device__ __forceinline__ int first_row() const {
    return static_cast<int>(blockIdx.x) * T::kBm + group * 64;
  }
  [[nodiscard]] __device__ __forceinline__ int first_channel() const {
    return static_cast<int>(blockIdx.y) * T::kBn;
  }

  // Scales of columns, while the kernel before this one still runs: only into the second level
  // cache.
  __device__ __forceinline__ void fetch_columns() const {
    const int c = static_cast<int>(threadIdx.x) * 8;
    if (!T::kScaled || c >= T::kBn) return;
    asm volatile("prefetch.global.L2 [%0];" ::"l"(args.column_scale + first_channel() + c));
  }

  // Scales of columns, times the one of x if there is just one.
  __device__ __forceinline__ void read_columns() const {
    if constexpr (!T::kScaled) return;
    const float common = args.row_scale_step == 0 ? *args.row_scale : 1.0F;
    for (int c = static_cast<int>(threadIdx.x); c < T::kBn; c += T::kConsumers) {
      columns[c] = args.column_scale[first_channel() + c] * common;
    }
    named_sync(1, T::kConsumers);
  }

  // Scales of the thread's two rows.
  __device__ __forceinline__ void read_rows(float (&scale)[2]) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = first_row() + thread / 32 * 16 + lane / 4 + half * 8;
      scale[half] = 1.0F;
      if (T::kScaled && args.row_scale_step != 0 && row < args.queries) {
        scale[half] = args.row_scale[static_cast<int>(blockIdx.z) * args.queries + row];
      }
    }
  }

  // Sums as queries: each step is rounded on its own, as a linear's epilogue does. Held one by one,
  // they are not converted before the tensor cores have ended.
  __device__ __forceinline__ void make_queries(Acc (&acc)[T::kBlocks][kSums],
                                               const float (&rows)[2],
                                               uint32_t (&q)[T::kHeads][4][4]) const {
#pragma unroll
    for (int chunk = 0; chunk < T::kBn / 8; ++chunk) {
      Acc* sums = acc[chunk * 4 / kSums] + chunk * 4 % kSums;
#pragma unroll
      for (int i = 0; i < 4; ++i) hold(sums[i]);
      float2 column = {1.0F, 1.0F};
      if constexpr (T::kScaled) {
        column = reinterpret_cast<const float2*>(columns)[chunk * 4 + lane % 4];
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        auto a = static_cast<float>(sums[2 * half]);
        auto b = static_cast<float>(sums[2 * half + 1]);
        if constexpr (T::kScaled) {
          a = __fmul_rn(a, __fmul_rn(rows[half], column.x));
          b = __fmul_rn(b, __fmul_rn(rows[half], column.y));
        }
        q[chunk / 8][chunk % 8 / 2][chunk % 2 * 2 + half] = pack<T::kElement>(a, b);
      }
    }
  }

  // Where the keys of a head lie, the values behind them, once they have come. `at`: the step of
  // the ring behind the last one of products, later of the heads before.
  __device__ __forceinline__ uint32_t await_context(RingPosition& at, int head) const {
    if constexpr (!T::kContextInRing) {
      if (head == 0) barrier_wait(context_full(ring), 0);
      return ring.data + T::kContext + head * 2 * T::kPartBytes;
    }
    if (head % 2 == 0) barrier_wait(ring.full(at.stage), at.phase);
    const uint32_t keys = ring.b(at.stage) + head % 2 * 2 * T::kPartBytes;
    if (head % 2 == 1) at.template next<T>();
    return keys;
  }

  // Starts the scores of a head; a group of its own.
  __device__ __forceinline__ void multiply_keys(float (&scores)[kTextKeys / 2],
                                                const uint32_t (&q)[4][4], uint32_t keys) const {
    const uint64_t k = operand_descriptor<kHeadRowBytes>(keys);
    wgmma_begin();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      WgmmaRegisters80<T::kElement>::mma(scores, q[i], k + 2 * i, static_cast<int>(i != 0));
    }
    wgmma_commit();
  }

  // A head's result to where a stage had this warpgroup's rows of x, and from there to y.
  __device__ __forceinline__ void store(float (&out)[32], const RowState& state, float unit,
                                        int head) const {
    float sum[2];
    sum_of_quad(state, sum);
    scale_rows(out, {unit / sum[0], unit / sum[1]});
    const uint32_t staging = ring.a(head % T::kStages) + group * 64 * T::kRowBytes;
    if (head >= T::kStages) {  // a result before lies there
      if (thread == 0) wait_stores_read();
      sync();
    }
    switch (args.out) {
      case Element::kS8:
        put_rows<Element::kS8>(out, staging, lane);
        break;
      case Element::kE4M3:
        put_rows<Element::kE4M3>(out, staging, lane);
        break;
      default:
        put_rows<T::kElement>(out, staging, lane);
    }
    sync();
    if (thread != 0) return;
    store_3d(&args.base.y, staging, first_channel() + head * kHeadDim, first_row(),
             static_cast<int>(blockIdx.z));
    commit_stores();
  }

  // Where registers suffice, the scores of the next head are computed beside a head's softmax, and
  // its result beside the next softmax: products end in the order in which they began.
  __device__ __forceinline__ void attend(const uint32_t (&q)[T::kHeads][4][4], float unit,
                                         RingPosition& at) const {
    constexpr int kLast = T::kHeads - 1;
    constexpr int kSets = T::kOverlapsHeads ? 2 : 1;
    constexpr int kBeside = T::kOverlapsHeads ? 1 : 0;  // products under way
    const int visible[2] = {args.base.keys, args.base.keys};
    float scores[kSets][kTextKeys / 2];
    float out[kSets][32];
    uint32_t weights[kSets][kTextKeys / 16][4];
    uint32_t keys[T::kHeads];
    RowState states[T::kHeads];
#pragma unroll
    for (int head = 0; head <= kLast; ++head) {
      const int set = head % kSets;
#pragma unroll
      for (int next = head; next <= min(head + kBeside, kLast); ++next) {
        if (next == head && head > 0 && T::kOverlapsHeads) continue;  // under way
        keys[next] = await_context(at, next);
        multiply_keys(scores[next % kSets], q[next], keys[next]);
      }
      wgmma_wait<kBeside>();
      weigh<T::kElement>(scores[set], visible, args.base.scale_log2, lane, states[head],
                         weights[set]);
      multiply_values<T::kElement>(out[set], weights[set], keys[head] + T::kPartBytes);
      const int ended = head - kBeside;
      if (ended < 0) continue;
      wgmma_wait<kBeside>();
      store(out[ended % kSets], states[ended], unit, ended);
    }
    if constexpr (!T::kOverlapsHeads) return;
    wgmma_wait<0>();
    store(out[kLast % kSets], states[kLast], unit, kLast);
  }

  __device__ __forceinline__ void run() const {
    fetch_columns();
    wait_for_previous_kernel();
    float rows[2];
    read_rows(rows);
    const float unit = args.base.y_scale != nullptr ? unit_of<Element::kS8>(args.base) : 1.0F;
    read_columns();
    Acc acc[T::kBlocks][kSums];
    RingPosition at;
    HalfSteps<false> none;
    multiply<T, Acc>(ring, at, args.steps, none, group * 64, lane, acc, [] {});
    uint32_t q[T::kHeads][4][4];
    make_queries(acc, rows, q);
    sync();  // all warps have read the rows of x that results are staged over
    attend(q, unit, at);
    if (thread == 0) wait_stores_read();
  }
};

template <class T>
__global__ void __launch_bounds__(T::kThreads, T::kBlocksPerSm)
    project_attention_kernel(const __grid_constant__ ProjectArgs args) {
  extern __shared__ __align__(1024) uint8_t shared[];
  const uint32_t base = shared_address(shared);
  const Ring<T> ring{base, base + T::kBarriers};
  // The same in a warp, as the compiler must see (gemm_kernel.cuh).
  const int group = __shfl_sync(0xFFFFFFFFU, static_cast<int>(threadIdx.x) / 128, 0);
  if (threadIdx.x == 0) {
    prefetch_map(&args.base.q);
    prefetch_map(&args.b);
    prefetch_map(&args.base.k);
    prefetch_map(&args.base.v);
    prefetch_map(&args.base.y);
    for (int stage = 0; stage < T::kStages; ++stage) {
      barrier_init(ring.full(stage), 1);
      barrier_init(ring.empty(stage), T::kGroups * 4 * T::kCluster);
    }
    barrier_init(context_full(ring), 1);
    fence_barrier_init();
  }
  const int rank = T::kCluster == 1 ? 0 : static_cast<int>(cluster_rank());
  if constexpr (T::kCluster == 1) {
    __syncthreads();
  } else {
    cluster_sync();
  }
  let_next_kernel_start();
  if (group == T::kGroups) {
    if constexpr (T::kMovesRegisters) give_registers<T::kGroups == 2 ? 40 : 32>();
    if (threadIdx.x == T::kConsumers) produce(args, ring, rank);
  } else {
    if constexpr (T::kMovesRegisters) take_registers<T::kGroups == 2 ? 232 : 160>();
    const int thread = static_cast<int>(threadIdx.x) % 128;
    ProjectConsumer<T>{args,  ring,   reinterpret_cast<float*>(shared + T::kColumns),
                       group, thread, thread % 32}
        .run();
  }
  // A block must not leave while the other may still arrive at its barriers or write its stages.
  if constexpr (T::kCluster > 1) cluster_sync();
}

template <Element kIn, Element kElement, int kGroups, int kHeads, int kCluster, int kBlocks>
[[nodiscard]] ProjectKernel project_instance() {
  using T = ProjectTile<kIn, kElement, kGroups, kHeads, kCluster, kBlocks>;
  return {
      T::kIn,      T::kElement,     T::kBm,
      T::kHeads,   T::kCluster,     kBlocks,
      T::kThreads, T::kSharedBytes, reinterpret_cast<const void*>(&project_attention_kernel<T>)};
}

// For large images; behind them those for few rows, of which a block's share is small.
template <Element kIn, Element kElement>
[[nodiscard]] std::vector<ProjectKernel> project_instances() {
  return {
      project_instance<kIn, kElement, 3, 2, 2, 1>(), project_instance<kIn, kElement, 2, 5, 2, 1>(),
      project_instance<kIn, kElement, 2, 2, 2, 1>(), project_instance<kIn, kElement, 2, 2, 1, 1>(),
      project_instance<kIn, kElement, 1, 2, 1, 1>(), project_instance<kIn, kElement, 1, 1, 1, 1>(),
      project_instance<kIn, kElement, 1, 1, 1, 2>(),
  };
}

}  // namespace halftone::backend::cuda::hopper
