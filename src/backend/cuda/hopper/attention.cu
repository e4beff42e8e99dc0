// y = softmax(q k^T) v for heads of 64 channels, in one pass over the keys. A block owns 128
// queries of a head: one producer warp brings tiles of 128 keys and values, two consumer warpgroups
// keep 64 queries each. The scores of the next tile are computed while the weights of this one
// multiply its values. Where that ends in a wave that leaves half of the device idle, the blocks of
// this wave own 64 queries: each warpgroup takes every second tile of keys, and they are joined.
#include "backend/cuda/hopper/attention_tile.cuh"
#include "backend/cuda/hopper/mma/wgmma.cuh"

namespace halftone::backend::cuda::hopper {
namespace {

constexpr int kQueries = 128;  // of a block
constexpr int kKeys = 128;     // of a tile
constexpr int kRowBytes = kHeadDim * 2;
constexpr int kTileStages = 4;
constexpr uint32_t kTileBytes = kKeys * kRowBytes;
constexpr uint32_t kQueryBytes = kQueries * kRowBytes;
constexpr int kBlockThreads = 384;
// Shared memory: queries (later the output), keys, values, barriers, one warpgroup's result.
constexpr uint32_t kKeysAt = kQueryBytes;
constexpr uint32_t kValuesAt = kKeysAt + kTileStages * kTileBytes;
constexpr uint32_t kBarriersAt = kValuesAt + kTileStages * kTileBytes;
constexpr uint32_t kPartAt = kBarriersAt + 256;
constexpr uint32_t kPartBytes = 36 * 128 * sizeof(float);  // of PartOfRows
constexpr int kSharedBytes = static_cast<int>(kPartAt + kPartBytes);

using Stages = TileStages<kKeysAt, kValuesAt, kBarriersAt, kTileBytes>;

struct TilePhase {
  int stage = 0;
  uint32_t phase = 0;
  __device__ __forceinline__ void advance(int tiles) {
    stage += tiles;
    if (stage >= kTileStages) {
      stage -= kTileStages;
      phase ^= 1;
    }
  }
};

// What a block owns.
struct Place {
  int row, head, batch;
  bool split;  // its warpgroups share 64 queries and take the keys' tiles in turn

  __device__ explicit Place(const OnePassArgs& args) {
    const int beyond = static_cast<int>(blockIdx.x) - args.full;
    split = beyond >= 0;
    const int pair = split ? args.full + beyond / 2 : static_cast<int>(blockIdx.x);
    const int n = pair / args.pairs;
    row = (pair - n * args.pairs) * kQueries + (split ? beyond % 2 * 64 : 0);
    batch = n / args.heads;
    head = n - batch * args.heads;
  }
};

__device__ __forceinline__ void produce_tiles(const AttentionKernelArgs& args, const Stages& stages,
                                              const Place& place, int tiles) {
  const int channel = place.head * kHeadDim;
  const int batch = place.batch;
  barrier_expect(stages.queries_full(), kQueryBytes);
  load_3d(stages.base, &args.q, stages.queries_full(), channel, place.row, batch);
  TilePhase at;
  for (int tile = 0; tile < tiles; ++tile) {
    barrier_wait(stages.keys_empty(at.stage), at.phase ^ 1);
    barrier_expect(stages.keys_full(at.stage), kTileBytes);
    load_3d(stages.keys(at.stage), &args.k, stages.keys_full(at.stage), channel, tile * kKeys,
            batch);
    barrier_wait(stages.values_empty(at.stage), at.phase ^ 1);
    barrier_expect(stages.values_full(at.stage), kTileBytes);
    load_3d(stages.values(at.stage), &args.v, stages.values_full(at.stage), channel, tile * kKeys,
            batch);
    at.advance(1);
  }
}

// A thread's part of a warpgroup's result, by thread in shared memory: output, maxima, sums.
struct PartOfRows {
  uint32_t at;
  __device__ __forceinline__ void put(int i, float v) const {
    asm volatile("st.shared.f32 [%0], %1;" ::"r"(at + i * 512), "f"(v) : "memory");
  }
  [[nodiscard]] __device__ __forceinline__ float get(int i) const {
    float v;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(v) : "r"(at + i * 512) : "memory");
    return v;
  }
};

template <Element kElement, Element kOut>
struct AttentionConsumer {
  const AttentionKernelArgs& args;
  const Stages& stages;
  const Place& place;
  int index;
  int lane;
  float scores[64];
  uint32_t weights[8][4];
  float out[32];
  RowState state;
  float shrink[2];
  float scale[2] = {args.scale_log2, args.scale_log2};
  float unit = unit_of<kOut>(args);

  __device__ __forceinline__ void release(uint32_t barrier) const {
    if (lane == 0) barrier_arrive(barrier);
  }

  // Of the block's queries the first that is this warpgroup's.
  [[nodiscard]] __device__ __forceinline__ int own_rows() const {
    return place.split ? 0 : index * 64;
  }

  __device__ __forceinline__ void issue_scores(TilePhase at) {
    barrier_wait(stages.keys_full(at.stage), at.phase);
    const uint64_t q = operand_descriptor<kRowBytes>(stages.base + own_rows() * kRowBytes);
    const uint64_t k = operand_descriptor<kRowBytes>(stages.keys(at.stage));
    wgmma_begin();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      Wgmma<kElement, kKeys>::mma(scores, q + 2 * i, k + 2 * i, static_cast<int>(i != 0));
    }
    wgmma_commit();
  }

  __device__ __forceinline__ void issue_values(TilePhase at, bool first) {
    barrier_wait(stages.values_full(at.stage), at.phase);
    const uint64_t v = operand_descriptor<kRowBytes>(stages.values(at.stage));
    constexpr uint64_t kSixteenRows = 16 * kRowBytes / 16;
    wgmma_begin();
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      WgmmaRegisters64<kElement>::mma(out, weights[i], v + i * kSixteenRows,
                                      i == 0 ? static_cast<int>(!first) : 1);
    }
    wgmma_commit();
  }

  __device__ __forceinline__ void take_tile(int tile, int tiles) {
    if (tile == tiles - 1) {
      const int left = args.keys - tile * kKeys;
      mask_scores(scores, {left, left}, lane);
    }
    raise_top(scores, state, scale, shrink);
  }

  __device__ __forceinline__ void run(int tiles) {
    const int step = place.split ? 2 : 1;
    const int first = place.split ? index : 0;
    // Tiles after the first, of this warpgroup and of the other.
    const int rounds = (place.split ? (tiles - index + 1) / 2 : tiles) - 1;
    const int others = (place.split ? (tiles + index) / 2 : tiles) - 1;
    TilePhase keys_at{first};
    TilePhase values_at{first};
    barrier_wait(stages.queries_full(), 0);
    issue_scores(keys_at);
    wgmma_wait<0>();
    release(stages.keys_empty(keys_at.stage));
    keys_at.advance(step);
    take_tile(first, tiles);
    soften(scores, state, scale, 0.0F, shrink);
    pack_weights<kElement>(scores, weights);
    if (index == 1 && others > 0) pass_turn(index);
    for (int i = 0; i < rounds; ++i) {
      wait_turn(index);
      issue_scores(keys_at);
      issue_values(values_at, i == 0);
      wgmma_wait<1>();
      if (i + index < others) pass_turn(index);
      release(stages.keys_empty(keys_at.stage));
      keys_at.advance(step);
      take_tile(first + (i + 1) * step, tiles);
      wgmma_wait<0>();
      release(stages.values_empty(values_at.stage));
      values_at.advance(step);
      soften(scores, state, scale, 0.0F, shrink);
      scale_rows(out, shrink);
      pack_weights<kElement>(scores, weights);
    }
    issue_values(values_at, rounds == 0);
    wgmma_wait<0>();
    if (place.split) join();
    if (!place.split || index == 0) write();
  }

  // Warpgroup 1 hands its result to warpgroup 0.
  __device__ __forceinline__ void join() {
    const PartOfRows part{stages.base + kPartAt +
                          static_cast<uint32_t>(threadIdx.x % 128 * sizeof(float))};
    constexpr int kJoin = 5;  // a named barrier
    if (index == 1) {
#pragma unroll
      for (int i = 0; i < 32; ++i) part.put(i, out[i]);
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        part.put(32 + row, state.top[row]);
        part.put(34 + row, state.sum[row]);
      }
      named_arrive(kJoin, 256);
      return;
    }
    named_sync(kJoin, 256);
    float other[2];
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const float other_top = part.get(32 + row);
      const float top = fmaxf(state.top[row], other_top);
      shrink[row] = power_of_two((state.top[row] - top) * scale[row]);
      other[row] = power_of_two((other_top - top) * scale[row]);
      state.sum[row] = fmaf(state.sum[row], shrink[row], part.get(34 + row) * other[row]);
    }
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      out[i] = fmaf(out[i], shrink[i % 4 / 2], part.get(i) * other[i % 4 / 2]);
    }
  }

  // The warpgroup's own queries are read: their place takes the output.
  __device__ __forceinline__ void write() {
    float sum[2];
    sum_of_quad(state, sum);
    scale_rows(out, {unit / sum[0], unit / sum[1]});
    const uint32_t base = stages.base + own_rows() * kRowBytes;
    await_readers<kOut>(1 + index);
    put_rows<kOut>(out, base, lane);
    named_sync(1 + index, 128);
    if (threadIdx.x % 128 == 0) {
      store_3d(&args.y, base, place.head * kHeadDim, place.row + own_rows(), place.batch);
      commit_stores();
      wait_stores_read();
    }
  }
};

template <Element kElement, Element kOut>
__global__ void __launch_bounds__(kBlockThreads, 1)
    attention_kernel(const __grid_constant__ OnePassArgs args) {
  extern __shared__ __align__(1024) uint8_t attention_shared[];
  const Stages stages{shared_address(attention_shared)};
  // A shuffle's result is known to be a warp's: addresses that follow from it are computed once.
  const int warpgroup = __shfl_sync(0xFFFFFFFFU, static_cast<int>(threadIdx.x) / 128, 0);
  const Place place(args);
  if (threadIdx.x == 0) {
    const uint32_t readers = place.split ? 4 : 8;  // warps, of a tile
    barrier_init(stages.queries_full(), 1);
    for (int s = 0; s < kTileStages; ++s) {
      barrier_init(stages.keys_full(s), 1);
      barrier_init(stages.values_full(s), 1);
      barrier_init(stages.keys_empty(s), readers);
      barrier_init(stages.values_empty(s), readers);
    }
    fence_barrier_init();
  }
  __syncthreads();
  wait_for_previous_kernel();
  let_next_kernel_start();
  const int tiles = (args.base.keys + kKeys - 1) / kKeys;
  if (warpgroup == 0) {
    give_registers<40>();
    if (threadIdx.x == 0) produce_tiles(args.base, stages, place, tiles);
  } else {
    take_registers<232>();
    AttentionConsumer<kElement, kOut> consumer{args.base, stages, place, warpgroup - 1,
                                               static_cast<int>(threadIdx.x) % 32};
    consumer.run(tiles);
  }
}

template <Element kElement>
const void* kernel_of(Element out) {
  switch (out) {
    case Element::kS8:
      return reinterpret_cast<const void*>(&attention_kernel<kElement, Element::kS8>);
    case Element::kE4M3:
      return reinterpret_cast<const void*>(&attention_kernel<kElement, Element::kE4M3>);
    default:
      return reinterpret_cast<const void*>(&attention_kernel<kElement, kElement>);
  }
}

}  // namespace

Attention::Attention(const AttentionProblem& p, int num_sms) : args_{} {
  args_.base.q = head_rows_map(p, p.element, p.q, p.queries, p.q_pitch, kQueries);
  args_.base.k = head_rows_map(p, p.element, p.k, p.keys, p.k_pitch, kKeys);
  args_.base.v = head_rows_map(p, p.element, p.v, p.keys, p.v_pitch, kKeys);
  args_.base.y = head_rows_map(p, p.out, p.y, p.queries, p.y_pitch, 64);
  args_.base.keys = static_cast<int>(p.keys);
  args_.base.scale_log2 = p.scale * kLog2E;
  args_.base.y_scale = p.y_scale;
  args_.pairs = static_cast<int>((p.queries + kQueries - 1) / kQueries);
  args_.heads = static_cast<int>(p.heads);
  const int64_t pairs = args_.pairs * p.heads * p.batch;
  const int64_t rest = pairs % num_sms;
  const bool split = 2 * rest <= num_sms && p.keys > kKeys;
  args_.full = static_cast<int>(split ? pairs - rest : pairs);
  launch_.kernel = p.element == Element::kF16 ? kernel_of<Element::kF16>(p.out)
                                              : kernel_of<Element::kBF16>(p.out);
  launch_.grid = dim3(static_cast<unsigned>(2 * pairs - args_.full));
  launch_.threads = kBlockThreads;
  launch_.shared_bytes = kSharedBytes;
  launch_.allow_shared();
}

}  // namespace halftone::backend::cuda::hopper
