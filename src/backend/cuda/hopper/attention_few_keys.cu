// y = softmax(q k^T) v for at most 128 keys and heads of 64 channels. Keys and values of a head
// stay in shared memory; each of a block's two warpgroups works on its own through every second
// tile of 64 queries, with the next one under way. What bounds it is reading q and writing y.
#include <algorithm>

#include "backend/cuda/hopper/few_keys.cuh"

namespace halftone::backend::cuda::hopper {
namespace {

constexpr int kGroups = kFewKeysGroups;
constexpr int kTileQueries = 64;
constexpr int kQueryStages = 2;  // of a warpgroup; each takes its tile's output too
constexpr int kBlockThreads = kGroups * 128;
constexpr uint32_t kTileBytes = kTileQueries * kHeadRowBytes;
static_assert(kTileBytes == kOutBytes);

// Shared memory: queries, keys, values, barriers. Rows of 128 bytes in eights keep every part
// aligned to the swizzle.
template <int kKeys>
struct FewKeysShared {
  static constexpr uint32_t kPartBytes = kKeys * kHeadRowBytes;
  static constexpr uint32_t kKeysAt = kGroups * kQueryStages * kTileBytes;
  static constexpr uint32_t kValuesAt = kKeysAt + kPartBytes;
  static constexpr uint32_t kBarriersAt = kValuesAt + kPartBytes;
  static constexpr int kBytes = static_cast<int>(kBarriersAt) + 64;
  static_assert(kPartBytes % 1024 == 0);

  uint32_t base;
  [[nodiscard]] __device__ uint32_t queries(int group, int stage) const {
    return base + (group * kQueryStages + stage) * kTileBytes;
  }
  [[nodiscard]] __device__ uint32_t keys_full() const { return base + kBarriersAt; }
  [[nodiscard]] __device__ uint32_t queries_full(int group, int stage) const {
    return base + kBarriersAt + 8 + (group * kQueryStages + stage) * 8;
  }
};

__device__ __forceinline__ void load_queries(const FewKeysArgs& args, uint32_t to, uint32_t barrier,
                                             int tile) {
  barrier_expect(barrier, kTileBytes);
  load_3d(to, &args.base.q, barrier, static_cast<int>(blockIdx.y) * kHeadDim, tile * kTileQueries,
          static_cast<int>(blockIdx.z));
}

// A tile of 64 queries whose rows lie at `queries`; the output takes their place.
template <Element kElement, Element kOut, int kKeys>
__device__ __forceinline__ void attend(const FewKeysArgs& args, const FewKeysShared<kKeys>& shared,
                                       uint32_t queries, int tile, int lane, float unit) {
  float scores[kKeys / 2];
  const uint64_t q = operand_descriptor<kHeadRowBytes>(queries);
  const uint64_t k = operand_descriptor<kHeadRowBytes>(shared.base + FewKeysShared<kKeys>::kKeysAt);
  wgmma_begin();
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    Wgmma<kElement, kKeys>::mma(scores, q + 2 * i, k + 2 * i, static_cast<int>(i != 0));
  }
  wgmma_commit();
  wgmma_wait<0>();

  int visible[2] = {args.base.keys, args.base.keys};
  if (args.causal) {
    const int row = tile * kTileQueries + static_cast<int>(threadIdx.x) % 128 / 32 * 16 + lane / 4;
    visible[0] = min(visible[0], row + 1);
    visible[1] = min(visible[1], row + 9);
  }
  RowState state;
  uint32_t weights[kKeys / 16][4];
  weigh<kElement>(scores, visible, args.base.scale_log2, lane, state, weights);
  float out[32];
  multiply_values<kElement>(out, weights, shared.base + FewKeysShared<kKeys>::kValuesAt);
  float sum[2];
  sum_of_quad(state, sum);
  wgmma_wait<0>();
  scale_rows(out, {unit / sum[0], unit / sum[1]});
  await_readers<kOut>(1 + static_cast<int>(threadIdx.x) / 128);
  put_rows<kOut>(out, queries, lane);
}

template <Element kElement, Element kOut, int kKeys>
__global__ void __launch_bounds__(kBlockThreads, kKeys > 96 ? 2 : 3)
    few_keys_kernel(const __grid_constant__ FewKeysArgs args) {
  extern __shared__ __align__(1024) uint8_t attention_shared[];
  using Shared = FewKeysShared<kKeys>;
  const Shared shared{shared_address(attention_shared)};
  const int group = static_cast<int>(threadIdx.x) / 128;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const bool leads = threadIdx.x % 128 == 0;
  if (threadIdx.x == 0) {
    barrier_init(shared.keys_full(), 1);
    for (int i = 0; i < kGroups * kQueryStages; ++i) {
      barrier_init(shared.queries_full(i / kQueryStages, i % kQueryStages), 1);
    }
    fence_barrier_init();
    prefetch_map(&args.base.q);
    prefetch_map(&args.base.k);
    prefetch_map(&args.base.v);
    prefetch_map(&args.base.y);
  }
  __syncthreads();
  wait_for_previous_kernel();
  let_next_kernel_start();
  const int first = static_cast<int>(blockIdx.x) * args.tiles_per_block + group;
  const int end = min((static_cast<int>(blockIdx.x) + 1) * args.tiles_per_block, args.tiles);
  const int channel = static_cast<int>(blockIdx.y) * kHeadDim;
  const int batch = static_cast<int>(blockIdx.z);
  if (threadIdx.x == 0) {
    barrier_expect(shared.keys_full(), 2 * Shared::kPartBytes);
    load_3d(shared.base + Shared::kKeysAt, &args.base.k, shared.keys_full(), channel, 0, batch);
    load_3d(shared.base + Shared::kValuesAt, &args.base.v, shared.keys_full(), channel, 0, batch);
  }
  if (leads) {
    for (int s = 0; s < kQueryStages && first + s * kGroups < end; ++s) {
      load_queries(args, shared.queries(group, s), shared.queries_full(group, s),
                   first + s * kGroups);
    }
  }
  const float unit = unit_of<kOut>(args.base);
  barrier_wait(shared.keys_full(), 0);
  int stage = 0;
  uint32_t phase = 0;
  for (int tile = first; tile < end; tile += kGroups) {
    const uint32_t queries = shared.queries(group, stage);
    barrier_wait(shared.queries_full(group, stage), phase);
    attend<kElement, kOut, kKeys>(args, shared, queries, tile, lane, unit);
    named_sync(1 + group, 128);
    if (leads) {
      store_3d(&args.base.y, queries, channel, tile * kTileQueries, batch);
      commit_stores();
      const int next = tile + kQueryStages * kGroups;
      if (next < end) {
        wait_stores_read();
        load_queries(args, queries, shared.queries_full(group, stage), next);
      }
    }
    if (++stage == kQueryStages) {
      stage = 0;
      phase ^= 1;
    }
  }
  if (leads) wait_stores_read();
}

template <Element kElement, int kKeys>
const void* kernel_of(Element out) {
  switch (out) {
    case Element::kS8:
      return reinterpret_cast<const void*>(&few_keys_kernel<kElement, Element::kS8, kKeys>);
    case Element::kE4M3:
      return reinterpret_cast<const void*>(&few_keys_kernel<kElement, Element::kE4M3, kKeys>);
    default:
      return reinterpret_cast<const void*>(&few_keys_kernel<kElement, kElement, kKeys>);
  }
}

template <int kKeys>
AttentionLaunch launch_of(const AttentionProblem& p) {
  AttentionLaunch launch;
  launch.kernel = p.element == Element::kF16 ? kernel_of<Element::kF16, kKeys>(p.out)
                                             : kernel_of<Element::kBF16, kKeys>(p.out);
  launch.shared_bytes = FewKeysShared<kKeys>::kBytes;
  return launch;
}

}  // namespace

FewKeysAttention::FewKeysAttention(const AttentionProblem& p, int num_sms) : args_{} {
  const bool text = p.keys <= kTextKeys;
  args_.base = attention_args(p, text ? kTextKeys : kFewKeys);
  args_.base.q = head_rows_map(p, p.element, p.q, p.queries, p.q_pitch, kTileQueries);
  args_.causal = p.causal;
  args_.tiles = static_cast<int>((p.queries + kTileQueries - 1) / kTileQueries);
  args_.tiles_per_block =
      few_keys_tiles_of_block(args_.tiles, p.heads * p.batch, num_sms, text ? 3 : 2);
  launch_ = text ? launch_of<kTextKeys>(p) : launch_of<kFewKeys>(p);
  launch_.grid =
      dim3(static_cast<unsigned>((args_.tiles + args_.tiles_per_block - 1) / args_.tiles_per_block),
           static_cast<unsigned>(p.heads), static_cast<unsigned>(p.batch));
  launch_.threads = kBlockThreads;
  launch_.allow_shared();
}

}  // namespace halftone::backend::cuda::hopper
