// y = softmax(q k^T) v for heads of 64 channels, in one pass over the keys. A block owns 128
// queries of a head: one producer warp brings tiles of 128 keys and values, two consumer warpgroups
// keep 64 queries each. The scores of the next tile are computed while the weights of this one
// multiply its values.
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
// Shared memory: queries (later the output), keys, values, barriers.
constexpr uint32_t kKeysAt = kQueryBytes;
constexpr uint32_t kValuesAt = kKeysAt + kTileStages * kTileBytes;
constexpr uint32_t kBarriersAt = kValuesAt + kTileStages * kTileBytes;
constexpr int kSharedBytes = static_cast<int>(kBarriersAt) + 256;

struct Stages {
  uint32_t base;
  [[nodiscard]] __device__ uint32_t keys(int s) const { return base + kKeysAt + s * kTileBytes; }
  [[nodiscard]] __device__ uint32_t values(int s) const {
    return base + kValuesAt + s * kTileBytes;
  }
  [[nodiscard]] __device__ uint32_t barrier(int i) const { return base + kBarriersAt + i * 8; }
  [[nodiscard]] __device__ uint32_t queries_full() const { return barrier(0); }
  [[nodiscard]] __device__ uint32_t keys_full(int s) const { return barrier(1 + s * 4); }
  [[nodiscard]] __device__ uint32_t keys_empty(int s) const { return barrier(2 + s * 4); }
  [[nodiscard]] __device__ uint32_t values_full(int s) const { return barrier(3 + s * 4); }
  [[nodiscard]] __device__ uint32_t values_empty(int s) const { return barrier(4 + s * 4); }
};

struct TilePhase {
  int stage = 0;
  uint32_t phase = 0;
  __device__ __forceinline__ void next() {
    if (++stage == kTileStages) {
      stage = 0;
      phase ^= 1;
    }
  }
};

__device__ __forceinline__ void produce_tiles(const AttentionKernelArgs& args, const Stages& stages,
                                              int tiles) {
  const int channel = static_cast<int>(blockIdx.y) * kHeadDim;
  const int batch = static_cast<int>(blockIdx.z);
  barrier_expect(stages.queries_full(), kQueryBytes);
  load_3d(stages.base, &args.q, stages.queries_full(), channel,
          static_cast<int>(blockIdx.x) * kQueries, batch);
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
    at.next();
  }
}

template <Element kElement>
struct AttentionConsumer {
  const AttentionKernelArgs& args;
  const Stages& stages;
  int index;
  int lane;
  float scores[64];
  uint32_t weights[8][4];
  float out[32];
  RowState state;
  float shrink[2];
  float scale[2] = {args.scale_log2, args.scale_log2};

  __device__ __forceinline__ void release(uint32_t barrier) const {
    if (lane == 0) barrier_arrive(barrier);
  }

  __device__ __forceinline__ void issue_scores(TilePhase at) {
    barrier_wait(stages.keys_full(at.stage), at.phase);
    const uint64_t q = operand_descriptor<kRowBytes>(stages.base + index * 64 * kRowBytes);
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

  __device__ __forceinline__ void soften_tile(int tile, int tiles) {
    if (tile == tiles - 1) {
      const int left = args.keys - tile * kKeys;
      mask_scores(scores, {left, left}, lane);
    }
    soften(scores, state, scale, 0.0F, shrink);
  }

  __device__ __forceinline__ void run(int tiles) {
    barrier_wait(stages.queries_full(), 0);
    TilePhase keys_at;
    TilePhase values_at;
    issue_scores(keys_at);
    wgmma_wait<0>();
    release(stages.keys_empty(keys_at.stage));
    keys_at.next();
    soften_tile(0, tiles);
    pack_weights<kElement>(scores, weights);
    if (index == 1 && tiles > 1) pass_turn(index);
    for (int tile = 0; tile + 1 < tiles; ++tile) {
      wait_turn(index);
      issue_scores(keys_at);
      issue_values(values_at, tile == 0);
      if (index == 0 || tile + 2 < tiles) pass_turn(index);
      wgmma_wait<1>();
      release(stages.keys_empty(keys_at.stage));
      keys_at.next();
      soften_tile(tile + 1, tiles);
      wgmma_wait<0>();
      release(stages.values_empty(values_at.stage));
      values_at.next();
      scale_rows(out, shrink);
      pack_weights<kElement>(scores, weights);
    }
    issue_values(values_at, tiles == 1);
    wgmma_wait<0>();
    write();
  }

  // The consumer's own queries are read: their place takes the output.
  __device__ __forceinline__ void write() {
    float sum[2];
    sum_of_quad(state, sum);
    scale_rows(out, {1.0F / sum[0], 1.0F / sum[1]});
    const uint32_t base = stages.base + index * kOutBytes;
    put_rows<kElement>(out, base, lane);
    named_sync(1 + index, 128);
    if (threadIdx.x % 128 == 0) {
      store_3d(&args.y, base, static_cast<int>(blockIdx.y) * kHeadDim,
               static_cast<int>(blockIdx.x) * kQueries + index * 64, static_cast<int>(blockIdx.z));
      commit_stores();
      wait_stores_read();
    }
  }
};

template <Element kElement>
__global__ void __launch_bounds__(kBlockThreads, 1)
    attention_kernel(const __grid_constant__ AttentionKernelArgs args) {
  extern __shared__ __align__(1024) uint8_t attention_shared[];
  const Stages stages{shared_address(attention_shared)};
  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  if (threadIdx.x == 0) {
    barrier_init(stages.queries_full(), 1);
    for (int s = 0; s < kTileStages; ++s) {
      barrier_init(stages.keys_full(s), 1);
      barrier_init(stages.values_full(s), 1);
      barrier_init(stages.keys_empty(s), 8);
      barrier_init(stages.values_empty(s), 8);
    }
    fence_barrier_init();
  }
  __syncthreads();
  wait_for_previous_kernel();
  let_next_kernel_start();
  const int tiles = (args.keys + kKeys - 1) / kKeys;
  if (warpgroup == 0) {
    give_registers<40>();
    if (threadIdx.x == 0) produce_tiles(args, stages, tiles);
  } else {
    take_registers<232>();
    AttentionConsumer<kElement> consumer{args, stages, warpgroup - 1,
                                         static_cast<int>(threadIdx.x) % 32};
    consumer.run(tiles);
  }
}

}  // namespace

Attention::Attention(const AttentionProblem& p) : args_{} {
  args_.q = head_rows_map(p, p.element, p.q, p.queries, p.q_pitch, kQueries);
  args_.k = head_rows_map(p, p.element, p.k, p.keys, p.k_pitch, kKeys);
  args_.v = head_rows_map(p, p.element, p.v, p.keys, p.v_pitch, kKeys);
  args_.y = head_rows_map(p, p.element, p.y, p.queries, p.y_pitch, 64);
  args_.keys = static_cast<int>(p.keys);
  args_.scale_log2 = p.scale * kLog2E;
  launch_.kernel = p.element == Element::kF16
                       ? reinterpret_cast<const void*>(&attention_kernel<Element::kF16>)
                       : reinterpret_cast<const void*>(&attention_kernel<Element::kBF16>);
  launch_.grid = dim3(static_cast<unsigned>((p.queries + kQueries - 1) / kQueries),
                      static_cast<unsigned>(p.heads), static_cast<unsigned>(p.batch));
  launch_.threads = kBlockThreads;
  launch_.shared_bytes = kSharedBytes;
  launch_.allow_shared();
}

}  // namespace halftone::backend::cuda::hopper
