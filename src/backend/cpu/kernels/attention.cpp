// Attention with an online softmax: never the whole matrix of scores.
//
// A task is one head of one batch row times up to kGroups groups of `cols` queries. Everything is
// kept transposed, a column a query, so that maximum, sum and rescaling are elementwise over
// columns:
//
//   for each tile of kKeys keys:   S^T [keys][cols] = K tile [keys][d] * Q^T [d][cols]
//                                  softmax step on the columns of S^T
//                                  O^T [d][cols] = O^T * shrink + V tile^T [d][keys] * S^T
//   O = O^T / sum
//
// K tiles are packed [block of rows][d][rows] for the register tile, V tiles lie as they come,
// [keys][d]. Every sum runs over keys in order, whatever the number of threads.
#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cpu/call.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"

namespace halftone::backend::cpu {
namespace {

using graph::Role;

constexpr int64_t kKeys = 64;   // of a tile; a multiple of every register tile's rows
constexpr int64_t kGroups = 4;  // groups of queries that share a packed tile
constexpr int64_t kRows = 8;    // transposed at a time
constexpr float kMasked = -std::numeric_limits<float>::max();

struct AttentionPlan {
  int64_t batch = 0, heads = 0, queries = 0, keys = 0, width = 0;
  int64_t tile_rows = 0, cols = 0, groups = 0, tasks_per_head = 0;
  float scale = 1.0F;
  bool causal = false;

  AttentionPlan(const graph::OpDesc& desc, const DeviceInfo& info) {
    const auto& op = desc.as<graph::Attention>();
    const Shape& q = desc.input(Role::kQ)->shape;
    const TileProduct& tile = vector_ops(info)->attention_tile;
    batch = q[0];
    heads = op.heads;
    queries = q[1];
    keys = desc.input(Role::kK)->shape[1];
    width = q[2] / heads;
    tile_rows = tile.rows;
    cols = tile.cols;
    groups = std::clamp<int64_t>(divide_up(queries, cols), 1, kGroups);
    tasks_per_head = divide_up(queries, groups * cols);
    scale = static_cast<float>(op.scale);
    causal = op.causal;
  }
};

// Buffers of one thread; those of queries have one part a group.
struct AttentionScratch {
  float *rows, *queries, *keys, *values, *scores, *outputs, *maximum, *sum, *shrink;
  size_t bytes;

  AttentionScratch(const AttentionPlan& plan, std::byte* base) {
    Scratch scratch(base);
    const int64_t square = plan.width * plan.cols;
    rows = scratch.take<float>(kRows * plan.width);
    queries = scratch.take<float>(plan.groups * square);
    keys = scratch.take<float>(kKeys * plan.width);
    values = scratch.take<float>(kKeys * plan.width);
    scores = scratch.take<float>(kKeys * plan.cols);
    outputs = scratch.take<float>(plan.groups * square);
    maximum = scratch.take<float>(plan.groups * plan.cols);
    sum = scratch.take<float>(plan.groups * plan.cols);
    shrink = scratch.take<float>(plan.cols);
    bytes = scratch.used_bytes();
  }
};

class AttentionLaunch final : public Launch {
 public:
  AttentionLaunch(const graph::OpDesc& desc, const DeviceInfo& info, const Operands& operands)
      : plan_(desc, info),
        ops_(*vector_ops(info)),
        threads_(useful_threads(info.num_units, 2 * plan_.batch * plan_.heads * plan_.queries *
                                                    plan_.keys * plan_.width)),
        workspace_(static_cast<std::byte*>(operands.workspace)),
        thread_bytes_(AttentionScratch(plan_, nullptr).bytes),
        q_(find_rows(desc, operands, Role::kQ)),
        k_(find_rows(desc, operands, Role::kK)),
        v_(find_rows(desc, operands, Role::kV)),
        y_(operands.outputs[0]) {}

  void enqueue(Stream& /*stream*/) const override {
    parallel_for(threads_, plan_.batch * plan_.heads * plan_.tasks_per_head,
                 [this](int64_t task, int thread) { run_task(task, thread); });
  }

 private:
  struct Task {
    int64_t n, first_col, first_query, num_queries;
    AttentionScratch scratch;
  };

  void run_task(int64_t task, int thread) const {
    const int64_t head = task / plan_.tasks_per_head;
    const int64_t first_query = task % plan_.tasks_per_head * plan_.groups * plan_.cols;
    const Task t{head / plan_.heads, head % plan_.heads * plan_.width, first_query,
                 std::min(plan_.queries - first_query, plan_.groups * plan_.cols),
                 AttentionScratch(plan_, workspace_ + static_cast<size_t>(thread) * thread_bytes_)};
    load_queries(t);
    const int64_t num_groups = divide_up(t.num_queries, plan_.cols);
    const int64_t square = plan_.width * plan_.cols;
    std::fill(t.scratch.outputs, t.scratch.outputs + num_groups * square, 0.0F);
    std::fill(t.scratch.sum, t.scratch.sum + num_groups * plan_.cols, 0.0F);
    std::fill(t.scratch.maximum, t.scratch.maximum + num_groups * plan_.cols, kMasked);
    const int64_t visible = plan_.causal ? t.first_query + t.num_queries : plan_.keys;
    for (int64_t key = 0; key < visible; key += kKeys) {
      const int64_t count = std::min(kKeys, visible - key);
      load_keys(t, key, count);
      load_values(t, key, count);
      for (int64_t group = 0; group < num_groups; ++group) add_tile(t, group, key, count);
    }
    for (int64_t group = 0; group < num_groups; ++group) store_group(t, group);
  }

  // Up to kRows rows of a head from `first` as f32, [row][d]; rows beyond `count` are 0.
  void load_rows(const Task& t, const Rows& from, int64_t first, int64_t count) const {
    for (int64_t i = 0; i < kRows; ++i) {
      float* to = t.scratch.rows + i * plan_.width;
      if (i < count) {
        ops_.load(from.dtype, from.at(first + i, t.first_col), to, plan_.width);
      } else {
        std::fill(to, to + plan_.width, 0.0F);
      }
    }
  }

  // Q^T of every group, times the scale; columns beyond the last query are 0.
  void load_queries(const Task& t) const {
    const int64_t square = plan_.width * plan_.cols;
    const int64_t row = t.n * plan_.queries + t.first_query;
    for (int64_t i = 0; i < plan_.groups * plan_.cols; i += kRows) {
      load_rows(t, q_, row + i, t.num_queries - i);
      ops_.affine(t.scratch.rows, plan_.scale, 0.0F, kMasked, -kMasked, t.scratch.rows,
                  kRows * plan_.width);
      ops_.transpose(t.scratch.rows, plan_.width, kRows, plan_.width,
                     t.scratch.queries + i / plan_.cols * square + i % plan_.cols, plan_.cols);
    }
  }

  void load_keys(const Task& t, int64_t key, int64_t count) const {
    const int64_t rows = plan_.tile_rows;
    for (int64_t i = 0; i < count; i += rows) {
      load_rows(t, k_, t.n * plan_.keys + key + i, std::min(rows, count - i));
      ops_.transpose(t.scratch.rows, plan_.width, rows, plan_.width,
                     t.scratch.keys + i * plan_.width, rows);
    }
  }

  void load_values(const Task& t, int64_t key, int64_t count) const {
    for (int64_t i = 0; i < count; ++i) {
      ops_.load(v_.dtype, v_.at(t.n * plan_.keys + key + i, t.first_col),
                t.scratch.values + i * plan_.width, plan_.width);
    }
  }

  void add_tile(const Task& t, int64_t group, int64_t key, int64_t count) const {
    const int64_t first = t.first_query + group * plan_.cols;
    const int64_t last = std::min(first + plan_.cols, t.first_query + t.num_queries) - 1;
    if (plan_.causal && key > last) return;
    const TileProduct& tile = ops_.attention_tile;
    const int64_t square = plan_.width * plan_.cols;
    float* scores = t.scratch.scores;
    for (int64_t i = 0; i < count; i += tile.rows) {
      tile.multiply(t.scratch.keys + i * plan_.width, tile.rows, t.scratch.queries + group * square,
                    plan_.width, scores + i * plan_.cols, std::min(tile.rows, count - i), false);
    }
    if (plan_.causal) mask_future(scores, first, key, count);
    ops_.softmax_step(scores, count, t.scratch.maximum + group * plan_.cols,
                      t.scratch.sum + group * plan_.cols, t.scratch.shrink);
    float* outputs = t.scratch.outputs + group * square;
    if (key > 0) ops_.scale_columns(outputs, plan_.width, t.scratch.shrink);
    for (int64_t d = 0; d < plan_.width; d += tile.rows) {
      tile.multiply(t.scratch.values + d, plan_.width, scores, count, outputs + d * plan_.cols,
                    std::min(tile.rows, plan_.width - d), true);
    }
  }

  // Query first + col sees keys up to itself.
  void mask_future(float* scores, int64_t first, int64_t key, int64_t count) const {
    for (int64_t i = std::max<int64_t>(first - key + 1, 0); i < count; ++i) {
      float* row = scores + i * plan_.cols;
      std::fill(row, row + std::min(plan_.cols, key + i - first), kMasked);
    }
  }

  void store_group(const Task& t, int64_t group) const {
    float* outputs = t.scratch.outputs + group * plan_.width * plan_.cols;
    float* sum = t.scratch.sum + group * plan_.cols;
    for (int64_t col = 0; col < plan_.cols; ++col)
      sum[col] = sum[col] > 0.0F ? 1.0F / sum[col] : 0.0F;
    ops_.scale_columns(outputs, plan_.width, sum);
    const int64_t count = std::min(plan_.cols, t.num_queries - group * plan_.cols);
    const int64_t row = t.n * plan_.queries + t.first_query + group * plan_.cols;
    for (int64_t i = 0; i < count; i += kRows) {
      ops_.transpose(outputs + i, plan_.cols, plan_.width, kRows, t.scratch.rows, plan_.width);
      for (int64_t r = 0; r < std::min(kRows, count - i); ++r) {
        ops_.store(t.scratch.rows + r * plan_.width, y_.dtype, y_.at(row + i + r, t.first_col),
                   plan_.width);
      }
    }
  }

  AttentionPlan plan_;
  const VectorOps& ops_;
  int threads_;
  std::byte* workspace_;
  size_t thread_bytes_;
  Rows q_, k_, v_, y_;
};

size_t workspace_bytes(const graph::OpDesc& desc, const DeviceInfo& info, Config /*config*/) {
  return AttentionScratch(AttentionPlan(desc, info), nullptr).bytes *
         static_cast<size_t>(info.num_units);
}

std::unique_ptr<Launch> prepare(const graph::OpDesc& desc, const DeviceInfo& info,
                                Config /*config*/, const Operands& operands) {
  return std::make_unique<AttentionLaunch>(desc, info, operands);
}

constexpr Kernel attention_kernel() {
  Kernel kernel =
      plain_kernel("cpu.attention.tiled", graph::OpKind::kAttention, supports_vector_ops, prepare);
  kernel.workspace_bytes = workspace_bytes;
  return kernel;
}

}  // namespace

const Kernel attention_tiled = attention_kernel();

}  // namespace halftone::backend::cpu
