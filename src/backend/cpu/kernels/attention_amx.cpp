// Attention on bf16 tiles with an online softmax: never the whole matrix of scores.
//
// Keys and values of every head are packed once, keys as left operands [key][d], values transposed,
// [d][key]. A task is one head of one batch row times up to kQueries queries; everything is kept
// transposed, a column a query:
//
//   for each piece of kKeys keys:  S^T [keys][queries] = K * Q^T
//                                  P^T = softmax step on the columns of S^T, rounded to bf16
//                                  O^T [d][queries] = O^T * shrink + V^T * P^T
//   O = O^T / sum
//
// Every sum runs over keys in order, whatever the number of threads.
#include <algorithm>
#include <cstring>
#include <limits>

#include "backend/cpu/call.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/kernels/result_rows.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/simd/tiles.h"

namespace halftone::backend::cpu {
namespace {

using graph::Role;

constexpr int64_t kKeys = 256;
constexpr int64_t kQueries = 64;
constexpr float kMasked = -std::numeric_limits<float>::max();
constexpr double kLog2E = 1.4426950408889634;

struct TilePlan {
  int64_t batch = 0, heads = 0, queries = 0, keys = 0, width = 0;
  int64_t depth = 0;       // tiles of 32 along a head's width
  int64_t key_tiles = 0;   // tiles of 32 along the keys
  int64_t head_tiles = 0;  // of packed keys, and as many of packed values
  int64_t tasks_per_head = 0;
  float scale = 1.0F;  // of scores, to base 2
  bool causal = false;

  explicit TilePlan(const graph::OpDesc& desc) {
    const auto& op = desc.as<graph::Attention>();
    const Shape& q = desc.input(Role::kQ)->shape;
    batch = q[0];
    heads = op.heads;
    queries = q[1];
    keys = desc.input(Role::kK)->shape[1];
    width = q[2] / heads;
    depth = divide_up(width, kTileDepth);
    key_tiles = divide_up(keys, kTileDepth);
    head_tiles = 2 * key_tiles * depth;
    tasks_per_head = divide_up(queries, kQueries);
    scale = static_cast<float>(op.scale * kLog2E);
    causal = op.causal;
  }
};

// Buffers of one thread. `rows` holds the rows of a tile over the whole width, in their own type or
// as f32.
struct TileScratch {
  uint16_t *queries, *weights;
  float *rows, *scores, *outputs, *maximum, *sum, *shrink;
  size_t bytes;

  TileScratch(const TilePlan& plan, std::byte* base) {
    Scratch scratch(base);
    const int64_t padded = plan.depth * kTileDepth;
    queries = scratch.take<uint16_t>(kQueries * padded);
    weights = scratch.take<uint16_t>(kKeys * kQueries);
    rows = scratch.take<float>(kTileRows * padded);
    scores = scratch.take<float>(kKeys * kQueries);
    outputs = scratch.take<float>(kQueries * padded);
    maximum = scratch.take<float>(kQueries);
    sum = scratch.take<float>(kQueries);
    shrink = scratch.take<float>(kTileRows);
    bytes = scratch.used_bytes();
  }
};

// Packed keys and values of all heads, then the threads' buffers.
struct TileWorkspace {
  uint16_t *keys, *values;
  std::byte* threads;
  size_t thread_bytes, bytes;

  TileWorkspace(const TilePlan& plan, int num_threads, void* base) {
    Scratch scratch(base);
    const int64_t all = plan.batch * plan.heads * plan.head_tiles * kTileValues;
    keys = scratch.take<uint16_t>(all);
    values = scratch.take<uint16_t>(all);
    thread_bytes = TileScratch(plan, nullptr).bytes;
    threads = scratch.take<std::byte>(num_threads * static_cast<int64_t>(thread_bytes));
    bytes = scratch.used_bytes();
  }
};

class TileAttention final : public Launch {
 public:
  TileAttention(const graph::OpDesc& desc, const DeviceInfo& info, const Operands& operands)
      : plan_(desc),
        workspace_(plan_, info.num_units, operands.workspace),
        tiles_(tile_ops()),
        ops_(*vector_ops(info)),
        threads_(useful_threads(info.num_units,
                                plan_.batch * plan_.heads * plan_.queries * plan_.keys * 16)),
        q_(find_rows(desc, operands, Role::kQ)),
        k_(find_rows(desc, operands, Role::kK)),
        v_(find_rows(desc, operands, Role::kV)),
        y_(desc, operands, ops_) {}

  void enqueue(Stream& /*stream*/) const override {
    const int64_t heads = plan_.batch * plan_.heads;
    parallel_for(threads_, heads * plan_.key_tiles, [this](int64_t task, int thread) {
      pack(task / plan_.key_tiles, task % plan_.key_tiles, scratch(thread));
    });
    parallel_for(threads_, heads * plan_.tasks_per_head, [this](int64_t task, int thread) {
      attend(task / plan_.tasks_per_head, task % plan_.tasks_per_head * kQueries, scratch(thread));
    });
  }

 private:
  [[nodiscard]] TileScratch scratch(int thread) const {
    return {plan_, workspace_.threads + static_cast<size_t>(thread) * workspace_.thread_bytes};
  }

  // Row `index` of `count` of a head of a batch row, with zeros up to whole tiles.
  void load_row(const Rows& from, int64_t head, int64_t index, int64_t count, uint16_t* to) const {
    const int64_t present = index < count ? plan_.width : 0;
    if (present > 0) {
      std::memcpy(to, from.at(head / plan_.heads * count + index, head % plan_.heads * plan_.width),
                  static_cast<size_t>(present) * sizeof *to);
    }
    std::fill(to + present, to + plan_.depth * kTileDepth, uint16_t{0});
  }

  // Rows of pairs of the 16 rows in `rows`, as a right operand: one tile a piece of the width.
  void transpose_pairs(const float* rows, uint16_t* to, int64_t step) const {
    for (int64_t d = 0; d < plan_.depth; ++d) {
      ops_.transpose(rows + d * kTileRows, plan_.depth * kTileRows, kTileRows, kTileRows,
                     reinterpret_cast<float*>(to + d * step), kTileRows);
    }
  }

  // 32 keys and values of a head.
  void pack(int64_t head, int64_t tile, const TileScratch& s) const {
    const int64_t padded = plan_.depth * kTileDepth;
    auto* rows = reinterpret_cast<uint16_t*>(s.rows);
    for (int64_t i = 0; i < kTileDepth; ++i) {
      load_row(k_, head, tile * kTileDepth + i, plan_.keys, rows);
      uint16_t* block = workspace_.keys + head * plan_.head_tiles * kTileValues +
                        (2 * tile + i / kTileRows) * plan_.depth * kTileValues;
      for (int64_t d = 0; d < plan_.depth; ++d) {
        std::copy_n(rows + d * kTileDepth, kTileDepth,
                    block + d * kTileValues + i % kTileRows * kTileDepth);
      }
    }
    // Pairs of keys as 32-bit values [16][d], transposed to [d][16].
    uint16_t* even = s.queries;
    uint16_t* odd = even + padded;
    for (int64_t i = 0; i < kTileRows; ++i) {
      load_row(v_, head, tile * kTileDepth + 2 * i, plan_.keys, even);
      load_row(v_, head, tile * kTileDepth + 2 * i + 1, plan_.keys, odd);
      uint16_t* pairs = s.weights + 2 * i * kTileRows;
      for (int64_t d = 0; d < padded; d += kTileRows, pairs += kTileValues) {
        for (int64_t j = 0; j < kTileRows; ++j) {
          pairs[2 * j] = even[d + j];
          pairs[2 * j + 1] = odd[d + j];
        }
      }
    }
    uint16_t* values = workspace_.values + head * plan_.head_tiles * kTileValues;
    for (int64_t d = 0; d < 2 * plan_.depth; ++d) {
      ops_.transpose(reinterpret_cast<const float*>(s.weights + d * kTileValues), kTileRows,
                     kTileRows, kTileRows,
                     reinterpret_cast<float*>(values + (d * plan_.key_tiles + tile) * kTileValues),
                     kTileRows);
    }
  }

  void attend(int64_t head, int64_t first, const TileScratch& s) const {
    const int64_t count = std::min(kQueries, plan_.queries - first);
    const int64_t cols = divide_up(count, kTileRows);
    for (int64_t col = 0; col < cols; ++col) {
      for (int64_t i = 0; i < kTileRows; ++i) {
        load_row(q_, head, first + col * kTileRows + i, plan_.queries,
                 reinterpret_cast<uint16_t*>(s.rows) + i * plan_.depth * kTileDepth);
      }
      transpose_pairs(s.rows, s.queries + col * plan_.depth * kTileValues, kTileValues);
    }
    std::fill(s.sum, s.sum + cols * kTileRows, 0.0F);
    std::fill(s.maximum, s.maximum + cols * kTileRows, kMasked);
    const int64_t visible = plan_.causal ? std::min(plan_.keys, first + count) : plan_.keys;
    for (int64_t key = 0; key < visible; key += kKeys) {
      add_keys(head, first, cols, key, std::min(kKeys, visible - key), s);
    }
    store(head, first, count, s);
  }

  // Softmax step and product for keys [key, key + count).
  void add_keys(int64_t head, int64_t first, int64_t cols, int64_t key, int64_t count,
                const TileScratch& s) const {
    const int64_t depth = plan_.depth;
    const int64_t pairs = divide_up(count, kTileDepth);
    const uint16_t* keys = workspace_.keys + head * plan_.head_tiles * kTileValues +
                           key / kTileRows * depth * kTileValues;
    const uint16_t* values =
        workspace_.values + head * plan_.head_tiles * kTileValues + key / kTileDepth * kTileValues;
    tiles_.multiply({keys, divide_up(count, kTileRows), depth}, {s.queries, cols, depth}, depth,
                    s.scores, 2 * pairs, false);
    for (int64_t col = 0; col < cols; ++col) {
      float* scores = s.scores + col * 2 * pairs * kTileSums;
      float* outputs = s.outputs + col * 2 * depth * kTileSums;
      if (plan_.causal) mask_future(scores, first + col * kTileRows, key, count);
      tiles_.softmax_step(scores, count, pairs * kTileDepth, plan_.scale,
                          s.maximum + col * kTileRows, s.sum + col * kTileRows, s.shrink,
                          s.weights + col * pairs * kTileValues);
      const bool shrinks = std::any_of(s.shrink, s.shrink + kTileRows, [](float f) {
        return f != 1.0F;  // or NaN
      });
      if (key > 0 && shrinks) tiles_.scale_columns(outputs, depth * kTileDepth, s.shrink);
    }
    tiles_.multiply({values, 2 * depth, plan_.key_tiles}, {s.weights, cols, pairs}, pairs,
                    s.outputs, 2 * depth, key > 0);
  }

  // Query first + col sees keys up to itself.
  static void mask_future(float* scores, int64_t first, int64_t key, int64_t count) {
    for (int64_t i = std::max<int64_t>(first - key + 1, 0); i < count; ++i) {
      float* row = scores + i * kTileRows;
      std::fill(row, row + std::min(kTileRows, key + i - first), kMasked);
    }
  }

  void store(int64_t head, int64_t first, int64_t count, const TileScratch& s) const {
    const int64_t padded = plan_.depth * kTileDepth;
    const int64_t row = head / plan_.heads * plan_.queries + first;
    for (int64_t i = 0; i < count; i += kTileRows) {
      float* sum = s.sum + i;
      for (int64_t j = 0; j < kTileRows; ++j) sum[j] = 1.0F / sum[j];
      float* outputs = s.outputs + i * padded;
      tiles_.scale_columns(outputs, padded, sum);
      ops_.transpose(outputs, kTileRows, padded, kTileRows, s.rows, padded);
      for (int64_t j = 0; j < std::min(kTileRows, count - i); ++j) {
        y_.store(s.rows + j * padded, row + i + j, head % plan_.heads * plan_.width, plan_.width);
      }
    }
  }

  TilePlan plan_;
  TileWorkspace workspace_;
  const TileOps& tiles_;
  const VectorOps& ops_;
  int threads_;
  Rows q_, k_, v_;
  ResultRows y_;
};

Support supports(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (!info.has("avx512") || !info.has("amx_bf16")) return Support::no("needs AMX with bf16");
  for (const Role role : {Role::kQ, Role::kK, Role::kV}) {
    if (desc.input(role)->dtype != DType::kBF16) return Support::no("wants bf16");
  }
  if (graph::is_quantized(desc.as<graph::Attention>(), desc.inputs)) {
    return Support::no("no 8-bit attention");
  }
  if (!(desc.as<graph::Attention>().scale > 0.0)) return Support::no("wants a positive scale");
  if (desc.input(Role::kK)->shape[1] == 0) return Support::no("no keys");
  if (TilePlan(desc).depth * kTileDepth > kKeys * 2) return Support::no("wants heads up to 512");
  return Support::yes();
}

size_t workspace_bytes(const graph::OpDesc& desc, const DeviceInfo& info, Config /*config*/) {
  return TileWorkspace(TilePlan(desc), info.num_units, nullptr).bytes;
}

std::unique_ptr<Launch> prepare(const graph::OpDesc& desc, const DeviceInfo& info,
                                Config /*config*/, const Operands& operands) {
  return std::make_unique<TileAttention>(desc, info, operands);
}

constexpr Kernel attention_kernel() {
  Kernel kernel = plain_kernel("cpu.attention.amx", graph::OpKind::kAttention, supports, prepare);
  kernel.workspace_bytes = workspace_bytes;
  return kernel;
}

}  // namespace

const Kernel attention_amx = attention_kernel();

}  // namespace halftone::backend::cpu
