// 8-bit attention for heads of 64 channels, in one pass over the keys, laid out as attention.cu is:
// a block owns 128 queries of a head, one producer brings tiles of 128 keys and values, two
// consumer warpgroups keep 64 queries each.
//
// Both products take K-major operands, so a kernel before it writes the values as [channel][key].
// Weights stay in the registers that hold their scores: of 32 keys a thread of quad position c
// holds 8 i + 2 c + {0, 1} (i = 0..3) of a row, but must give positions 16 h + 4 c + {0..3} (h = 0,
// 1) of the left operand. Position 16 h + 4 c + e therefore stands for key 16 h + 8 (e / 2) + 2 c +
// e % 2, and the values are written in that order.
//
// The tensor cores keep 13 bits of a sum of f8 products, so each tile's sum of values is added to
// the output in f32.
#include <array>

#include "backend/cuda/error.h"
#include "backend/cuda/hopper/attention_tile.cuh"
#include "backend/cuda/hopper/mma/wgmma.cuh"
#include "backend/cuda/hopper/tensor_map.h"

namespace halftone::backend::cuda::hopper {
namespace {

constexpr int kQueries = 128;  // of a block
constexpr int kKeys = 128;     // of a tile
constexpr int kRowBytes = kHeadDim;
constexpr int kTileStages = 4;
constexpr int kBlockThreads = 384;
constexpr uint32_t kTileBytes = kKeys * kRowBytes;  // of keys, and of values
constexpr uint32_t kQueryBytes = kQueries * kRowBytes;
constexpr uint32_t kScaleBytes = kKeys * sizeof(float);
// Shared memory: queries, keys, values, output, scales of keys, barriers.
constexpr uint32_t kKeysAt = kQueryBytes;
constexpr uint32_t kValuesAt = kKeysAt + kTileStages * kTileBytes;
constexpr uint32_t kOutAt = kValuesAt + kTileStages * kTileBytes;
constexpr uint32_t kScalesAt = kOutAt + 2 * kOutBytes;
constexpr uint32_t kBarriersAt = kScalesAt + kTileStages * kScaleBytes;
constexpr int kSharedBytes = static_cast<int>(kBarriersAt) + 256;

constexpr float kLargestLog2 = 8.80735492F;  // of 448, the code of weight 1
// An i32 below 2^22 in magnitude, added to the bits of this, is a float that much larger.
constexpr float kIntegerOffset = 12582912.0F;
constexpr int kIntegerOffsetBits = 0x4B400000;

struct Stages : TileStages<kKeysAt, kValuesAt, kBarriersAt, kTileBytes> {
  [[nodiscard]] __device__ uint32_t scales(int s) const {
    return base + kScalesAt + s * kScaleBytes;
  }
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

template <bool kKeyScales>
__device__ __forceinline__ void produce_tiles(const CodesAttentionKernelArgs& args,
                                              const Stages& stages, int tiles) {
  const int head = static_cast<int>(blockIdx.y);
  const int channel = head * kHeadDim;
  const int batch = static_cast<int>(blockIdx.z);
  barrier_expect(stages.queries_full(), kQueryBytes);
  load_3d(stages.base, &args.base.q, stages.queries_full(), channel,
          static_cast<int>(blockIdx.x) * kQueries, batch);
  TilePhase at;
  for (int tile = 0; tile < tiles; ++tile) {
    const uint32_t keys_full = stages.keys_full(at.stage);
    barrier_wait(stages.keys_empty(at.stage), at.phase ^ 1);
    barrier_expect(keys_full, kTileBytes + (kKeyScales ? kScaleBytes : 0));
    load_3d(stages.keys(at.stage), &args.base.k, keys_full, channel, tile * kKeys, batch);
    if constexpr (kKeyScales) {
      load_3d(stages.scales(at.stage), &args.k_scale, keys_full, tile * kKeys, head, batch);
    }
    barrier_wait(stages.values_empty(at.stage), at.phase ^ 1);
    barrier_expect(stages.values_full(at.stage), kTileBytes);
    load_3d(stages.values(at.stage), &args.base.v, stages.values_full(at.stage), tile * kKeys,
            channel, batch);
    at.next();
  }
}

__device__ __forceinline__ float2 load_pair(uint32_t shared) {
  float2 v;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(v.x), "=f"(v.y) : "r"(shared));
  return v;
}

__device__ __forceinline__ uint32_t four_codes(float a, float b, float c, float d) {
  return pack<Element::kE4M3>(a, b) | pack<Element::kE4M3>(c, d) << 16;
}

template <Element kElement, bool kKeyScales, Element kOut>
struct CodesConsumer {
  using Sum = typename Accumulator<kElement>::Type;

  const CodesAttentionKernelArgs& args;
  const Stages& stages;
  int index;
  int lane;
  Sum sums[64];
  float scores[64];
  uint32_t weights[4][4];
  float part[32];  // a tile's share of the output
  float out[32];
  RowState state;
  float scale[2];
  float shrink[2], next_shrink[2];

  __device__ __forceinline__ void release(uint32_t barrier) const {
    if (lane == 0) barrier_arrive(barrier);
  }

  // What the sums of both rows are multiplied by, for powers of two.
  __device__ __forceinline__ void load_scales() {
    const int row = static_cast<int>(blockIdx.x) * kQueries + index * 64 +
                    static_cast<int>(threadIdx.x) % 128 / 32 * 16 + lane / 4;
    const float common = args.base.scale_log2 * (kKeyScales ? 1.0F : *args.k_scale_all);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int64_t query = min(row + 8 * i, args.queries - 1);
      const int64_t part_index =
          (static_cast<int64_t>(blockIdx.z) * args.queries + query) * args.heads + blockIdx.y;
      scale[i] = common * args.q_scale[args.q_by_part ? part_index : 0];
    }
  }

  __device__ __forceinline__ void issue_scores(TilePhase at) {
    barrier_wait(stages.keys_full(at.stage), at.phase);
    const uint64_t q = operand_descriptor<kRowBytes>(stages.base + index * 64 * kRowBytes);
    const uint64_t k = operand_descriptor<kRowBytes>(stages.keys(at.stage));
    wgmma_begin();
    Wgmma<kElement, kKeys>::mma(sums, q, k, 0);
    Wgmma<kElement, kKeys>::mma(sums, q + 2, k + 2, 1);
    wgmma_commit();
  }

  __device__ __forceinline__ void issue_values(TilePhase at) {
    barrier_wait(stages.values_full(at.stage), at.phase);
    const uint64_t v = operand_descriptor<kKeys>(stages.values(at.stage));
    wgmma_begin();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      WgmmaRegisters64<Element::kE4M3>::mma(part, weights[i], v + 2 * i, static_cast<int>(i != 0));
    }
    wgmma_commit();
  }

  // Sums to scores, but for the row's factor; the tile's keys and their scales are then read.
  __device__ __forceinline__ void take_scores(TilePhase at) {
#pragma unroll
    for (int i = 0; i < 64; i += 4) {
      float2 key{1.0F, 1.0F};
      if constexpr (kKeyScales) {
        key = load_pair(stages.scales(at.stage) + (i * 2 + lane % 4 * 2) * sizeof(float));
      }
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const float factor = k % 2 == 0 ? key.x : key.y;
        if constexpr (kElement == Element::kS8) {
          // Exact: the scale has two bits to spare (pack_values_kernel).
          const float raised = __int_as_float(sums[i + k] + kIntegerOffsetBits);
          scores[i + k] = fmaf(raised, factor, -kIntegerOffset * factor);
        } else {
          scores[i + k] = kKeyScales ? sums[i + k] * factor : sums[i + k];
        }
      }
    }
    if constexpr (kKeyScales) __syncwarp();
    release(stages.keys_empty(at.stage));
  }

  __device__ __forceinline__ void take_tile(int tile, int tiles, float (&factor)[2]) {
    if (tile == tiles - 1) {
      const int left = args.base.keys - tile * kKeys;
      mask_scores(scores, {left, left}, lane);
    }
    raise_top(scores, state, scale, factor);
  }

  __device__ __forceinline__ void pack_codes() {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* s = scores + 16 * i;
      weights[i][0] = four_codes(s[0], s[1], s[4], s[5]);
      weights[i][1] = four_codes(s[2], s[3], s[6], s[7]);
      weights[i][2] = four_codes(s[8], s[9], s[12], s[13]);
      weights[i][3] = four_codes(s[10], s[11], s[14], s[15]);
    }
  }

  __device__ __forceinline__ void add_part() {
#pragma unroll
    for (int i = 0; i < 32; ++i) out[i] = fmaf(out[i], shrink[i % 4 / 2], part[i]);
  }

  __device__ __forceinline__ void run(int tiles) {
    load_scales();
#pragma unroll
    for (float& v : out) v = 0;
    barrier_wait(stages.queries_full(), 0);
    TilePhase keys_at;
    TilePhase values_at;
    issue_scores(keys_at);
    wgmma_wait<0>();
    take_scores(keys_at);
    keys_at.next();
    take_tile(0, tiles, shrink);
    soften(scores, state, scale, kLargestLog2, shrink);
    pack_codes();
    if (index == 1 && tiles > 1) pass_turn(index);
    for (int tile = 0; tile + 1 < tiles; ++tile) {
      wait_turn(index);
      issue_scores(keys_at);
      issue_values(values_at);
      wgmma_wait<1>();
      take_scores(keys_at);
      keys_at.next();
      take_tile(tile + 1, tiles, next_shrink);
      wgmma_wait<0>();
      if (index == 0 || tile + 2 < tiles) pass_turn(index);
      release(stages.values_empty(values_at.stage));
      values_at.next();
      soften(scores, state, scale, kLargestLog2, next_shrink);
      add_part();
      shrink[0] = next_shrink[0];
      shrink[1] = next_shrink[1];
      pack_codes();
    }
    issue_values(values_at);
    wgmma_wait<0>();
    add_part();
    write();
  }

  __device__ __forceinline__ void write() {
    float sum[2];
    sum_of_quad(state, sum);
    const float unit = *args.v_scale * unit_of<kOut>(args.base);
    scale_rows(out, {unit / sum[0], unit / sum[1]});
    const uint32_t base = stages.base + kOutAt + index * kOutBytes;
    put_rows<kOut>(out, base, lane);
    named_sync(1 + index, 128);
    if (threadIdx.x % 128 == 0) {
      store_3d(&args.base.y, base, static_cast<int>(blockIdx.y) * kHeadDim,
               static_cast<int>(blockIdx.x) * kQueries + index * 64, static_cast<int>(blockIdx.z));
      commit_stores();
      wait_stores_read();
    }
  }
};

template <Element kElement, bool kKeyScales, Element kOut>
__global__ void __launch_bounds__(kBlockThreads, 1)
    codes_kernel(const __grid_constant__ CodesAttentionKernelArgs args) {
  extern __shared__ __align__(1024) uint8_t attention_shared[];
  const Stages stages{shared_address(attention_shared)};
  // A shuffle's result is known to be a warp's: addresses that follow from it are computed once.
  const int warpgroup = __shfl_sync(0xFFFFFFFFU, static_cast<int>(threadIdx.x) / 128, 0);
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
  const int tiles = (args.base.keys + kKeys - 1) / kKeys;
  if (warpgroup == 0) {
    give_registers<40>();
    if (threadIdx.x == 0) produce_tiles<kKeyScales>(args, stages, tiles);
  } else {
    take_registers<232>();
    CodesConsumer<kElement, kKeyScales, kOut> consumer{args, stages, warpgroup - 1,
                                                       static_cast<int>(threadIdx.x) % 32};
    consumer.run(tiles);
  }
}

// A block: the values of 128 keys of a head to [channel][key], within each 32 keys in the order of
// the weights' positions, zeros beyond the last; and the keys' scales.
constexpr int kPackThreads = 128;

__global__ void __launch_bounds__(kPackThreads)
    pack_values_kernel(const __grid_constant__ PackValuesArgs a) {
  __shared__ __align__(16) uint8_t tile[kKeys][kHeadDim];
  const int thread = static_cast<int>(threadIdx.x);
  const int first = static_cast<int>(blockIdx.x) * kKeys;
  const int64_t head = blockIdx.y;
  const int64_t batch = blockIdx.z;
  wait_for_previous_kernel();
  let_next_kernel_start();
#pragma unroll
  for (int i = thread; i < kKeys * kHeadDim / 16; i += kPackThreads) {
    const int key = i / (kHeadDim / 16);
    const int c = i % (kHeadDim / 16) * 16;
    uint4 codes{0, 0, 0, 0};
    if (first + key < a.keys) {
      codes = *reinterpret_cast<const uint4*>(a.v + (batch * a.keys + first + key) * a.v_pitch +
                                              head * kHeadDim + c);
    }
    *reinterpret_cast<uint4*>(&tile[key][c]) = codes;
  }
  if (a.k_scale != nullptr) {
    float scale = 0;
    if (first + thread < a.keys) {
      scale = a.k_scale[a.by_part ? (batch * a.keys + first + thread) * a.heads + head : 0];
    }
    // Two bits less, so that its product with 3 * 2^22 is exact.
    a.packed_scale[(batch * a.heads + head) * a.padded + first + thread] =
        __uint_as_float(__float_as_uint(scale) & ~3U);
  }
  __syncthreads();
  const int c = thread % kHeadDim;
  const int half = thread / kHeadDim * 64;  // the thread's keys of the tile
  uint8_t* to = a.packed + ((batch * a.heads + head) * kHeadDim + c) * a.padded + first + half;
#pragma unroll
  for (int chunk = 0; chunk < 64; chunk += 16) {
    uint32_t words[4];
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      const int key = half + chunk + 2 * w;
      words[w] = tile[key][c] | tile[key + 1][c] << 8 | tile[key + 8][c] << 16 |
                 static_cast<uint32_t>(tile[key + 9][c]) << 24;
    }
    *reinterpret_cast<uint4*>(to + chunk) = make_uint4(words[0], words[1], words[2], words[3]);
  }
}

template <Element kElement, bool kKeyScales>
const void* kernel_of(Element out) {
  switch (out) {
    case Element::kF16:
      return reinterpret_cast<const void*>(&codes_kernel<kElement, kKeyScales, Element::kF16>);
    case Element::kBF16:
      return reinterpret_cast<const void*>(&codes_kernel<kElement, kKeyScales, Element::kBF16>);
    case Element::kS8:
      return reinterpret_cast<const void*>(&codes_kernel<kElement, kKeyScales, Element::kS8>);
    default:
      return reinterpret_cast<const void*>(&codes_kernel<kElement, kKeyScales, Element::kE4M3>);
  }
}

int64_t padded_keys(int64_t keys) { return (keys + kKeys - 1) / kKeys * kKeys; }

}  // namespace

size_t codes_workspace_bytes(int64_t batch, int64_t keys, int64_t heads) {
  const int64_t bytes_a_key = kHeadDim + static_cast<int64_t>(sizeof(float));
  return static_cast<size_t>(batch * heads * padded_keys(keys) * bytes_a_key);
}

CodesAttention::CodesAttention(const CodesProblem& problem) : args_{} {
  const AttentionProblem& p = problem.base;
  const int64_t padded = padded_keys(p.keys);
  const bool key_scales = p.element == Element::kS8 || problem.k_by_part;
  auto* packed = static_cast<uint8_t*>(problem.workspace);
  auto* scales = reinterpret_cast<float*>(packed + p.batch * p.heads * kHeadDim * padded);
  pack_args_.v = static_cast<const uint8_t*>(p.v);
  pack_args_.packed = packed;
  pack_args_.k_scale = key_scales ? problem.k_scale : nullptr;
  pack_args_.packed_scale = scales;
  pack_args_.v_pitch = p.v_pitch;
  pack_args_.keys = static_cast<int>(p.keys);
  pack_args_.padded = static_cast<int>(padded);
  pack_args_.heads = static_cast<int>(p.heads);
  pack_args_.by_part = problem.k_by_part;
  pack_.kernel = reinterpret_cast<const void*>(&pack_values_kernel);
  pack_.grid = dim3(static_cast<unsigned>(padded / kKeys), static_cast<unsigned>(p.heads),
                    static_cast<unsigned>(p.batch));
  pack_.threads = kPackThreads;

  const auto size = [](int64_t n) { return static_cast<uint64_t>(n); };
  const std::array<uint64_t, 3> v_sizes = {size(padded), size(p.heads * kHeadDim), size(p.batch)};
  const std::array<uint64_t, 2> v_pitches = {size(padded), size(padded * p.heads * kHeadDim)};
  const std::array<uint32_t, 3> v_box = {kKeys, kHeadDim, 1};
  const std::array<uint64_t, 3> scale_sizes = {size(padded), size(p.heads), size(p.batch)};
  const std::array<uint64_t, 2> scale_pitches = {size(padded * 4), size(padded * 4 * p.heads)};
  const std::array<uint32_t, 3> scale_box = {kKeys, 1, 1};
  args_.base.q = head_rows_map(p, p.element, p.q, p.queries, p.q_pitch, kQueries);
  args_.base.k = head_rows_map(p, p.element, p.k, p.keys, p.k_pitch, kKeys);
  args_.base.v = tiled_map(Element::kE4M3, packed, v_sizes, v_pitches, v_box, kKeys);
  args_.base.y = head_rows_map(p, p.out, p.y, p.queries, p.y_pitch, 64);
  args_.k_scale = tiled_map(Element::kF32, scales, scale_sizes, scale_pitches, scale_box, 0);
  args_.base.keys = static_cast<int>(p.keys);
  args_.base.scale_log2 = p.scale * kLog2E;
  args_.base.y_scale = p.y_scale;
  args_.q_scale = problem.q_scale;
  args_.k_scale_all = problem.k_scale;
  args_.v_scale = problem.v_scale;
  args_.queries = static_cast<int>(p.queries);
  args_.heads = static_cast<int>(p.heads);
  args_.q_by_part = problem.q_by_part;
  launch_.kernel = p.element == Element::kS8 ? kernel_of<Element::kS8, true>(p.out)
                   : key_scales              ? kernel_of<Element::kE4M3, true>(p.out)
                                             : kernel_of<Element::kE4M3, false>(p.out);
  launch_.grid = dim3(static_cast<unsigned>((p.queries + kQueries - 1) / kQueries),
                      static_cast<unsigned>(p.heads), static_cast<unsigned>(p.batch));
  launch_.threads = kBlockThreads;
  launch_.shared_bytes = kSharedBytes;
  launch_.allow_shared();
}

void CodesAttention::launch(cudaStream_t stream) const {
  pack_(&pack_args_, stream);
  launch_(&args_, stream);
}

}  // namespace halftone::backend::cuda::hopper
