// y = softmax(scale q k^T) v for heads of 64 channels, in one pass over the keys. A block takes
// items in turn, 128 queries of a head each: one producer warp brings tiles of 128 keys and values,
// and runs ahead into the next item; two consumer warpgroups keep 64 queries each. The scores of
// the next tile, be it the next item's first, are computed while the weights of this one multiply
// its values; maxima are taken in an item's first tile, later only where weights would outgrow f16.
// Where items end in a wave that leaves half of the device idle, those of this wave are of 64
// queries: each warpgroup takes every second tile of keys, and they are joined.
#include <algorithm>

#include "backend/cuda/hopper/attention_tile.cuh"
#include "backend/cuda/hopper/mma/wgmma.cuh"

namespace halftone::backend::cuda::hopper {
namespace {

constexpr int kQueries = 128;  // of an item
constexpr int kKeys = 128;     // of a tile
constexpr int kRowBytes = kHeadDim * 2;
constexpr int kTileStages = 4;
constexpr uint32_t kTileBytes = kKeys * kRowBytes;
constexpr uint32_t kQueryBytes = kQueries * kRowBytes;
constexpr int kBlockThreads = 384;
// Shared memory: two items' queries, keys, values, output, barriers, one warpgroup's result.
constexpr uint32_t kKeysAt = 2 * kQueryBytes;
constexpr uint32_t kValuesAt = kKeysAt + kTileStages * kTileBytes;
constexpr uint32_t kOutAt = kValuesAt + kTileStages * kTileBytes;
constexpr uint32_t kBarriersAt = kOutAt + 2 * kOutBytes;
constexpr uint32_t kPartAt = kBarriersAt + 256;
constexpr uint32_t kPartBytes = 36 * 128 * sizeof(float);  // of PartOfRows
constexpr int kSharedBytes = static_cast<int>(kPartAt + kPartBytes);
constexpr uint32_t kReaders = 8;  // warps, of a tile and of queries

// A row's top need not be its largest score: that of an item's first tile serves the later ones as
// long as the sum of the weights that a thread makes of the row there is at most kLargestSum, as an
// f16 holds each of them then. So scores may rise by about 15 powers of two before maxima are taken
// again.
constexpr float kLargestSum = 32768.0F;

struct Stages : TileStages<kKeysAt, kValuesAt, kBarriersAt, kTileBytes> {
  [[nodiscard]] __device__ uint32_t queries(int i) const { return base + i * kQueryBytes; }
  [[nodiscard]] __device__ uint32_t queries_full(int i) const { return barrier(17 + 2 * i); }
  [[nodiscard]] __device__ uint32_t queries_empty(int i) const { return barrier(18 + 2 * i); }
};

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

// Which of its two places an item's queries have.
struct QueryPhase {
  int place = 0;
  uint32_t phase = 0;
  __device__ __forceinline__ void advance() {
    phase ^= static_cast<uint32_t>(place);
    place ^= 1;
  }
};

__device__ __forceinline__ int quotient(int dividend, const Divisor& by) {
  return static_cast<int>(__umulhi(2 * static_cast<uint32_t>(dividend), by.factor) >> by.shift);
}

struct Item {
  int row, head, batch;
  bool split;  // the warpgroups share 64 queries and take the keys' tiles in turn

  __device__ Item(const OnePassArgs& args, int item) {
    const int beyond = item - args.full;
    split = beyond >= 0;
    const int pair = split ? args.full + beyond / 2 : item;
    const int n = quotient(pair, args.by_pairs);
    row = (pair - n * args.pairs) * kQueries + (split ? beyond % 2 * 64 : 0);
    batch = quotient(n, args.by_heads);
    head = n - batch * args.heads;
  }
};

__device__ __forceinline__ void produce_tiles(const OnePassArgs& all, const Stages& stages,
                                              int tiles) {
  const AttentionKernelArgs& args = all.base;
  for (const CUtensorMap* map : {&args.q, &args.k, &args.v, &args.y}) prefetch_map(map);
  TilePhase at;
  QueryPhase queries_at;
  int i = static_cast<int>(blockIdx.x);
  Item item(all, i);
  wait_for_previous_kernel();
  for (;;) {
    const int channel = item.head * kHeadDim;
    const uint32_t queries_full = stages.queries_full(queries_at.place);
    barrier_wait(stages.queries_empty(queries_at.place), queries_at.phase ^ 1);
    barrier_expect(queries_full, kQueryBytes);
    load_3d(stages.queries(queries_at.place), &args.q, queries_full, channel, item.row, item.batch);
    queries_at.advance();
    for (int tile = 0; tile < tiles; ++tile) {
      barrier_wait(stages.keys_empty(at.stage), at.phase ^ 1);
      barrier_expect(stages.keys_full(at.stage), kTileBytes);
      load_3d(stages.keys(at.stage), &args.k, stages.keys_full(at.stage), channel, tile * kKeys,
              item.batch);
      barrier_wait(stages.values_empty(at.stage), at.phase ^ 1);
      barrier_expect(stages.values_full(at.stage), kTileBytes);
      load_3d(stages.values(at.stage), &args.v, stages.values_full(at.stage), channel, tile * kKeys,
              item.batch);
      at.advance(1);
    }
    i += static_cast<int>(gridDim.x);
    if (i >= all.items) break;
    item = Item(all, i);
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

// One of kFmaShare powers of two is made on the FMA pipe, beside the special-function unit, which
// has no time to spare: 2^n times a cubic of the rest of the exponent, |rest| <= 1/2 (relative
// error 7.5e-5; an f16 rounds by up to 4.9e-4). Exponents are held to kLowest..kLowest + kSpan: the
// FMA that scales a score saturates, and so gives the exponent's place in that range (NaN: 0).
constexpr int kFmaShare = 8;
constexpr float kLowest = -112.0F;  // a weight that is 0 in f16 and nothing beside 1 in bf16
constexpr float kSpan = 128.0F;     // up to 2^16, more than kLargestSum
__device__ __forceinline__ float saturated_fma(float a, float b, float c) {
  float d;
  asm("fma.rn.sat.f32 %0, %1, %2, %3;" : "=f"(d) : "f"(a), "f"(b), "f"(c));
  return d;
}
__device__ __forceinline__ float power_of_place(float place) {
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: rounds what is added, which ends its bits
  const float whole = fmaf(place, kSpan, kRound + kLowest);
  const float rest = fmaf(place, kSpan, (kRound + kLowest) - whole);
  float p = fmaf(0.0551717021F, rest, 0.2426111996F);
  p = fmaf(p, rest, 0.6932609677F);
  p = fmaf(p, rest, 0.9999280572F);
  return __int_as_float(__float_as_int(p) + (__float_as_int(whole) << 23));
}

// What a score is multiplied by and added to, for an exponent or its place.
struct ExponentOf {
  float scale, shift, place_scale, place_shift;
  __device__ __forceinline__ ExponentOf(float scale_log2, float top)
      : scale(scale_log2),
        shift(-top * scale_log2),
        place_scale(scale_log2 / kSpan),
        place_shift(fmaf(shift, 1 / kSpan, -kLowest / kSpan)) {}
  // The weight of score `i` of a thread's.
  __device__ __forceinline__ float weight(float score, int i) const {
    if (i % kFmaShare == kFmaShare - 1) {
      return power_of_place(saturated_fma(score, place_scale, place_shift));
    }
    return power_of_two(fmaf(score, scale, shift));
  }
};

template <Element kElement, Element kOut>
struct AttentionConsumer {
  using Weights = uint32_t[8][4];

  const OnePassArgs& all;
  const AttentionKernelArgs& args;
  const Stages& stages;
  int tiles;
  int index;
  int lane;
  float scores[64];
  float out[32];
  RowState state;
  float shrink[2];
  float scale[2] = {args.scale_log2, args.scale_log2};
  float unit = 1;  // of the output
  TilePhase keys_at, values_at;
  QueryPhase queries_at;
  int step = 1;         // between this warpgroup's tiles; 2: the item is split
  int first_tile = 0;   // of this warpgroup
  int rows = 0;         // of the item's queries the first that is this warpgroup's
  int rounds = 0;       // tiles after the first
  int turn = 0;         // how many were taken
  int other_turns = 0;  // that the other warpgroup takes in all

  // `count`: of a warp, twice where one warpgroup alone reads.
  __device__ __forceinline__ void release(uint32_t barrier, int count) const {
    if (lane == 0) barrier_arrive_by(barrier, count);
  }

  __device__ __forceinline__ void issue_scores() {
    barrier_wait(stages.keys_full(keys_at.stage), keys_at.phase);
    const uint64_t q =
        operand_descriptor<kRowBytes>(stages.queries(queries_at.place) + rows * kRowBytes);
    const uint64_t k = operand_descriptor<kRowBytes>(stages.keys(keys_at.stage));
    wgmma_begin();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      Wgmma<kElement, kKeys>::mma(scores, q + 2 * i, k + 2 * i, static_cast<int>(i != 0));
    }
    wgmma_commit();
  }

  __device__ __forceinline__ void issue_values(const Weights& weights, bool first) {
    barrier_wait(stages.values_full(values_at.stage), values_at.phase);
    const uint64_t v = operand_descriptor<kRowBytes>(stages.values(values_at.stage));
    constexpr uint64_t kSixteenRows = 16 * kRowBytes / 16;
    wgmma_begin();
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      WgmmaRegisters64<kElement>::mma(out, weights[i], v + i * kSixteenRows,
                                      i == 0 ? static_cast<int>(!first) : 1);
    }
    wgmma_commit();
  }

  __device__ __forceinline__ void end_turn() {
    if (turn + index < other_turns) pass_turn(index);
    ++turn;
  }

  __device__ __forceinline__ void mask(int tile) {
    const int left = args.keys - tile * kKeys;
    if (left < kKeys) mask_scores(scores, {left, left}, lane);
  }

  // Scores to weights of the tops that are known; the thread's sums of them.
  __device__ __forceinline__ void weigh(float (&made)[64], float (&sum)[2]) {
    sum[0] = sum[1] = 0;
    const ExponentOf exponent[2] = {{scale[0], state.top[0]}, {scale[1], state.top[1]}};
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      const int row = i % 2;
      float& a = made[2 * i];
      float& b = made[2 * i + 1];
      a = exponent[row].weight(scores[2 * i], 2 * i);
      b = exponent[row].weight(scores[2 * i + 1], 2 * i + 1);
      sum[row] += a + b;
    }
  }

  __device__ __forceinline__ void add_sums(const float (&sum)[2]) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      state.sum[row] = fmaf(state.sum[row], shrink[row], sum[row]);
    }
  }

  // An item's first tile.
  __device__ __forceinline__ void open_item(Weights& weights) {
    state = RowState{};
    mask(first_tile);
    raise_top(scores, state, scale, shrink);
    float sum[2];
    weigh(scores, sum);
    add_sums(sum);
    pack_weights<kElement>(scores, weights);
  }

  // A later tile's weights. The tops that are known serve as long as no weight outgrows its type,
  // so that mostly no maximum is taken and nothing is scaled. Returns whether the tops were raised:
  // then what was summed up before is to be scaled by `shrink`.
  __device__ __forceinline__ bool weigh_next(float (&made)[64]) {
    bool raised = false;
    float sum[2];
    for (;;) {
      weigh(made, sum);
      const bool held = sum[0] <= kLargestSum && sum[1] <= kLargestSum;
      if (raised || __all_sync(0xFFFFFFFFU, static_cast<int>(held)) != 0) break;
      raise_top(scores, state, scale, shrink);
      raised = true;
    }
    if (raised) {
      add_sums(sum);
    } else {
      state.sum[0] += sum[0];
      state.sum[1] += sum[1];
    }
    return raised;
  }

  // The next scores beside the products of the weights; the scores have come at its end.
  __device__ __forceinline__ void take_turn(const Weights& weights, bool first) {
    wait_turn(index);
    issue_scores();
    issue_values(weights, first);
    wgmma_wait<1>();
    end_turn();
    release(stages.keys_empty(keys_at.stage), step);
    keys_at.advance(step);
  }

  // One turn: scores of tile `next` beside the products of the tile before, whose weights its own
  // take the place of.
  __device__ __forceinline__ void turn_over(int next, bool first, Weights& weights) {
    take_turn(weights, first);
    mask(next);
    float made[64];
    const bool raised = weigh_next(made);
    wgmma_wait<0>();
    release(stages.values_empty(values_at.stage), step);
    values_at.advance(step);
    pack_weights<kElement>(made, weights);
    if (raised) scale_rows(out, shrink);
  }

  // All tiles of the item after its first: `weights` are those of the tile before.
  __device__ __forceinline__ void take_tiles(Weights& weights) {
    int next = first_tile + step;
    for (int i = 0; i < rounds; ++i, next += step) turn_over(next, i == 0, weights);
  }

  // Where this warpgroup's tiles of an item are; its keys are next in the ring.
  __device__ __forceinline__ void enter(bool split) {
    step = split ? 2 : 1;
    first_tile = split ? index : 0;
    rows = split ? 0 : index * 64;
    rounds = (split ? (tiles - index + 1) / 2 : tiles) - 1;
    keys_at.advance(first_tile);
  }

  __device__ __forceinline__ void run() {
    const int blocks = static_cast<int>(gridDim.x);
    int i = static_cast<int>(blockIdx.x);
    const int full = i < all.full ? (all.full - i + blocks - 1) / blocks : 0;
    const bool any_split = i + full * blocks < all.items;
    other_turns = full * tiles + (any_split ? (tiles + index) / 2 : 0) - 1;
    if (index == 1 && other_turns > 0) pass_turn(index);
    Item item(all, i);
    enter(item.split);
    values_at.advance(first_tile);
    wait_for_previous_kernel();
    unit = unit_of<kOut>(args);
    barrier_wait(stages.queries_full(0), 0);
    issue_scores();
    wgmma_wait<0>();
    release(stages.keys_empty(keys_at.stage), step);
    keys_at.advance(step);
    Weights weights;
    open_item(weights);
    for (;;) {
      take_tiles(weights);
      i += blocks;
      if (i >= all.items) break;
      next_item(i, item, weights);
    }
    issue_values(weights, rounds == 0);
    wgmma_wait<0>();
    const bool split = step == 2;
    if (split) join();
    if (!split || index == 0) write(item, rows);
    if (threadIdx.x % 128 == 0) wait_stores_read();
  }

  // From a whole item to another: its last products run beside the first scores of the other, it
  // is written, and the other's first weights are made.
  __device__ __forceinline__ void next_item(int i, Item& item, Weights& weights) {
    release(stages.queries_empty(queries_at.place), 1);
    queries_at.advance();
    const Item done = item;
    const bool first = rounds == 0;
    item = Item(all, i);
    const int first_row = rows;
    enter(item.split);
    barrier_wait(stages.queries_full(queries_at.place), queries_at.phase);
    take_turn(weights, first);
    wgmma_wait<0>();
    release(stages.values_empty(values_at.stage), 1);
    values_at.advance(1 + first_tile);
    write(done, first_row);
    open_item(weights);
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

  // The thread that stored the last item's output sees that it has been read.
  __device__ __forceinline__ void write(const Item& item, int first_row) {
    float sum[2];
    sum_of_quad(state, sum);
    scale_rows(out, {unit / sum[0], unit / sum[1]});
    const uint32_t at = stages.base + kOutAt + static_cast<uint32_t>(index) * kOutBytes;
    const bool stores = threadIdx.x % 128 == 0;
    if (stores) wait_stores_read();
    named_sync(1 + index, 128);
    put_rows<kOut>(out, at, lane);
    named_sync(1 + index, 128);
    if (stores) {
      store_3d(&args.y, at, item.head * kHeadDim, item.row + first_row, item.batch);
      commit_stores();
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
  if (threadIdx.x == 0) {
    for (int s = 0; s < kTileStages; ++s) {
      barrier_init(stages.keys_full(s), 1);
      barrier_init(stages.values_full(s), 1);
      barrier_init(stages.keys_empty(s), kReaders);
      barrier_init(stages.values_empty(s), kReaders);
    }
    for (int i = 0; i < 2; ++i) {
      barrier_init(stages.queries_full(i), 1);
      barrier_init(stages.queries_empty(i), kReaders);
    }
    fence_barrier_init();
  }
  __syncthreads();
  let_next_kernel_start();  // whose blocks come when these leave, and wait for all of them
  const int tiles = (args.base.keys + kKeys - 1) / kKeys;
  if (warpgroup == 0) {
    give_registers<40>();
    if (threadIdx.x == 0) produce_tiles(args, stages, tiles);
  } else {
    take_registers<232>();
    AttentionConsumer<kElement, kOut> consumer{
        args, args.base, stages, tiles, warpgroup - 1, static_cast<int>(threadIdx.x) % 32};
    consumer.run();
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

Divisor::Divisor(int divisor) {
  while (int64_t{1} << shift < divisor) ++shift;
  const uint64_t power = uint64_t{1} << (31 + shift);
  factor = static_cast<uint32_t>((power + divisor - 1) / divisor);
}

Attention::Attention(const AttentionProblem& p, int num_sms) : args_{} {
  args_.base = attention_args(p, kKeys);
  args_.base.q = head_rows_map(p, p.element, p.q, p.queries, p.q_pitch, kQueries);
  args_.pairs = static_cast<int>((p.queries + kQueries - 1) / kQueries);
  args_.heads = static_cast<int>(p.heads);
  args_.by_pairs = Divisor(args_.pairs);
  args_.by_heads = Divisor(args_.heads);
  const int64_t pairs = args_.pairs * p.heads * p.batch;
  const int64_t rest = pairs % num_sms;
  const bool split = 2 * rest <= num_sms && p.keys > kKeys;
  args_.full = static_cast<int>(split ? pairs - rest : pairs);
  args_.items = static_cast<int>(2 * pairs - args_.full);
  launch_.kernel = p.element == Element::kF16 ? kernel_of<Element::kF16>(p.out)
                                              : kernel_of<Element::kBF16>(p.out);
  launch_.grid = dim3(static_cast<unsigned>(std::min(args_.items, num_sms)));
  launch_.threads = kBlockThreads;
  launch_.shared_bytes = kSharedBytes;
  launch_.allow_shared();
}

}  // namespace halftone::backend::cuda::hopper
