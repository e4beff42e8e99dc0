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
//
// 8-bit operands are simulated: codes times their scale as they are loaded. Probabilities in 8 bits
// take all keys as one tile, because they are rounded relative to the largest score of all.
#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cpu/call.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/kernels/result_rows.h"
#include "backend/cpu/parallel.h"
#include "tensor/quantized.h"

namespace halftone::backend::cpu {
namespace {

using graph::Role;

constexpr int64_t kKeys = 64;   // of a tile; a multiple of every register tile's rows
constexpr int64_t kGroups = 4;  // groups of queries that share a packed tile
constexpr int64_t kRows = 8;    // transposed at a time
constexpr float kMasked = -std::numeric_limits<float>::max();
constexpr float kLargest = quantized_largest(DType::kF8E4M3, 8);

struct AttentionPlan {
  int64_t batch = 0, heads = 0, queries = 0, keys = 0, width = 0;
  int64_t tile_rows = 0, cols = 0, groups = 0, tasks_per_head = 0;
  int64_t tile_keys = 0;
  float scale = 1.0F;
  bool causal = false;
  bool rounds = false;  // probabilities to f8e4m3

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
    rounds = op.probabilities == DType::kF8E4M3;
    tile_keys = rounds ? divide_up(keys, kKeys) * kKeys : kKeys;
  }
};

// The rows of q, k or v, with the scales of codes.
struct HeadRows {
  Rows rows;
  const float* scales = nullptr;
  bool by_part = false;  // a scale for each head's part of a row; else one

  HeadRows(const graph::OpDesc& desc, const Operands& operands, Role role, Role scale_role)
      : rows(find_rows(desc, operands, role)) {
    const TensorView* view = find_view(desc, operands, scale_role);
    if (view == nullptr) return;
    scales = view->as<const float>();
    by_part = view->type.shape.num_elements() > 1;
  }
};

// Buffers of one thread; those of queries have one part a group.
struct AttentionScratch {
  float *rows, *queries, *keys, *values, *scores, *outputs, *maximum, *sum, *shrink;
  uint8_t* codes;
  size_t bytes;

  AttentionScratch(const AttentionPlan& plan, std::byte* base) {
    Scratch scratch(base);
    const int64_t square = plan.width * plan.cols;
    rows = scratch.take<float>(kRows * plan.width);
    queries = scratch.take<float>(plan.groups * square);
    keys = scratch.take<float>(plan.tile_keys * plan.width);
    values = scratch.take<float>(plan.tile_keys * plan.width);
    scores = scratch.take<float>(plan.tile_keys * plan.cols);
    outputs = scratch.take<float>(plan.groups * square);
    maximum = scratch.take<float>(plan.groups * plan.cols);
    sum = scratch.take<float>(plan.groups * plan.cols);
    shrink = scratch.take<float>(plan.cols);
    codes = scratch.take<uint8_t>(plan.rounds ? plan.tile_keys * plan.cols : 0);
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
        q_(desc, operands, Role::kQ, Role::kQScale),
        k_(desc, operands, Role::kK, Role::kKScale),
        v_(desc, operands, Role::kV, Role::kVScale),
        y_(desc, operands, ops_) {}

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
    for (int64_t key = 0; key < visible; key += plan_.tile_keys) {
      const int64_t count = std::min(plan_.tile_keys, visible - key);
      load_keys(t, key, count);
      load_values(t, key, count);
      for (int64_t group = 0; group < num_groups; ++group) add_tile(t, group, key, count);
    }
    for (int64_t group = 0; group < num_groups; ++group) store_group(t, group);
  }

  // A head's part of a row as f32.
  void load_row(const Task& t, const HeadRows& from, int64_t row, float* to) const {
    ops_.load(from.rows.dtype, from.rows.at(row, t.first_col), to, plan_.width);
    if (from.scales == nullptr) return;
    const int64_t part = from.by_part ? row * plan_.heads + t.first_col / plan_.width : 0;
    ops_.affine(to, from.scales[part], 0.0F, kMasked, -kMasked, to, plan_.width);
  }

  // Up to kRows rows of a head from `first` as f32, [row][d]; rows beyond `count` are 0.
  void load_rows(const Task& t, const HeadRows& from, int64_t first, int64_t count) const {
    for (int64_t i = 0; i < kRows; ++i) {
      float* to = t.scratch.rows + i * plan_.width;
      if (i < count) {
        load_row(t, from, first + i, to);
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
      load_row(t, v_, t.n * plan_.keys + key + i, t.scratch.values + i * plan_.width);
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
    if (plan_.rounds) round_to_codes(t, count);
    float* outputs = t.scratch.outputs + group * square;
    if (key > 0) ops_.scale_columns(outputs, plan_.width, t.scratch.shrink);
    for (int64_t d = 0; d < plan_.width; d += tile.rows) {
      tile.multiply(t.scratch.values + d, plan_.width, scores, count, outputs + d * plan_.cols,
                    std::min(tile.rows, plan_.width - d), true);
    }
  }

  // Weights become their codes, numbers up to kLargest; what is summed of them is divided by it.
  void round_to_codes(const Task& t, int64_t count) const {
    ops_.quantize_f8(t.scratch.scores, kLargest, t.scratch.codes, count * plan_.cols);
    ops_.load(DType::kF8E4M3, t.scratch.codes, t.scratch.scores, count * plan_.cols);
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
    const float unit = plan_.rounds ? kLargest : 1.0F;
    for (int64_t col = 0; col < plan_.cols; ++col)
      sum[col] = sum[col] > 0.0F ? 1.0F / (unit * sum[col]) : 0.0F;
    ops_.scale_columns(outputs, plan_.width, sum);
    const int64_t count = std::min(plan_.cols, t.num_queries - group * plan_.cols);
    const int64_t row = t.n * plan_.queries + t.first_query + group * plan_.cols;
    for (int64_t i = 0; i < count; i += kRows) {
      ops_.transpose(outputs + i, plan_.cols, plan_.width, kRows, t.scratch.rows, plan_.width);
      for (int64_t r = 0; r < std::min(kRows, count - i); ++r) {
        y_.store(t.scratch.rows + r * plan_.width, row + i + r, t.first_col, plan_.width);
      }
    }
  }

  AttentionPlan plan_;
  const VectorOps& ops_;
  int threads_;
  std::byte* workspace_;
  size_t thread_bytes_;
  HeadRows q_, k_, v_;
  ResultRows y_;
};

Support supports(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (!info.has("avx2")) return Support::no("needs AVX2, FMA and F16C");
  for (const graph::TypedOperand& operand : desc.inputs) {
    const DType dtype = operand.type.dtype;
    if (is_vector_type(dtype) || graph::is_quantized(dtype)) continue;
    return Support::no("wants f32, f16, bf16 or codes");
  }
  return Support::yes();
}

size_t workspace_bytes(const graph::OpDesc& desc, const DeviceInfo& info, Config /*config*/) {
  return AttentionScratch(AttentionPlan(desc, info), nullptr).bytes *
         static_cast<size_t>(info.num_units);
}

std::unique_ptr<Launch> prepare(const graph::OpDesc& desc, const DeviceInfo& info,
                                Config /*config*/, const Operands& operands) {
  return std::make_unique<AttentionLaunch>(desc, info, operands);
}

constexpr Kernel attention_kernel() {
  Kernel kernel = plain_kernel("cpu.attention.tiled", graph::OpKind::kAttention, supports, prepare);
  kernel.workspace_bytes = workspace_bytes;
  return kernel;
}

// --- center

// A block of columns of a batch row is one task: their means, then the rows.
std::unique_ptr<Launch> prepare_center(const graph::OpDesc& desc, const DeviceInfo& info,
                                       Config /*config*/, const Operands& operands) {
  constexpr int64_t kColumns = 64;
  const Rows x = find_rows(desc, operands, Role::kX);
  const Rows y(operands.outputs[0]);
  const int64_t batch = desc.output().shape[0];
  const int64_t tokens = desc.output().shape[1];
  const int64_t blocks = divide_up(x.size, kColumns);
  const VectorOps* ops = vector_ops(info);
  const int threads = useful_threads(info.num_units, 16 * x.count * x.size);
  return make_launch([=] {
    parallel_for(threads, batch * blocks, [&](int64_t task, int) {
      const int64_t first_row = task / blocks * tokens;
      const int64_t col = task % blocks * kColumns;
      const int64_t n = std::min(kColumns, x.size - col);
      alignas(64) float zero[kColumns] = {}, sums[kColumns], squares[kColumns], row[kColumns];
      if (tokens == 0) return;
      ops->column_moments(x.dtype, x.at(first_row, col), x.pitch_bytes, tokens, n, zero, sums,
                          squares);
      const auto factor = -1.0F / static_cast<float>(tokens);
      for (int64_t i = first_row; i < first_row + tokens; ++i) {
        ops->load(x.dtype, x.at(i, col), row, n);
        ops->multiply_add(factor, sums, row, n);
        ops->store(row, y.dtype, y.at(i, col), n);
      }
    });
  });
}

}  // namespace

const Kernel attention_tiled = attention_kernel();
const Kernel center_vector =
    plain_kernel("cpu.center.vector", graph::OpKind::kCenter, supports_vector_ops, prepare_center);

}  // namespace halftone::backend::cpu
