// Linear on VectorOps' register tiles: y = epilogue(x W^T).
//
// Weights are packed into panels of `cols` outputs, [panel][in][cols], in their own element type:
// bf16 weights stay 2 bytes in memory, i8 and f8e4m3 codes one, integers of 4 and 2 bits as narrow
// as they are (VectorOps::unpack's order within a slice), and are widened a slice at a time;
// products of codes are those of their plain values, scaled at the end. So f8e4m3 is simulated
// exactly, in f32. With geglu a panel holds cols/2 values and
// the cols/2 gates that belong to them, so the product never leaves the register tile's cache lines
// before it is gated. x is packed once a call into f32 tiles, [tile][in][rows]. A task is a block
// of tiles times a panel:
//   for each slice of kSlice inputs: widen the panel's slice, multiply every tile, accumulate in
//   f32 then the epilogue row by row: + bias + row_add, activation or gate, + residual, rounding.
#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "backend/cpu/call.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"
#include "tensor/quantized.h"

namespace halftone::backend::cpu {
namespace {

using graph::Role;

constexpr int64_t kSlice =
    128;  // inputs: a slice of a panel stays in half of the first level cache
constexpr int64_t kTilesPerTask = 32;
constexpr int64_t kMaxTileRows = 16;

// Sizes that follow from the op and the tile.
struct LinearPlan {
  int64_t rows = 0, in = 0, weight_rows = 0, out = 0;
  int64_t tile_rows = 0, cols = 0, tiles = 0, panels = 0, batch = 0;
  bool geglu = false;
  DType weight_dtype = DType::kF32;  // as packed
  int64_t packed_bits = 0;           // of a weight of packed integers

  LinearPlan(const graph::OpDesc& desc, const DeviceInfo& info) {
    const TileProduct& tile = vector_ops(info)->matrix_tile;
    const TensorType& x = *desc.input(Role::kX);
    const TensorType& weight = *desc.input(Role::kWeight);
    geglu = desc.as<graph::Linear>().geglu;
    rows = x.shape.num_rows();
    in = x.shape[-1];
    weight_rows = weight.shape[0];
    out = desc.output().shape[-1];
    weight_dtype = weight.dtype;
    if (weight_dtype == DType::kU8) {
      weight_dtype = DType::kI8;
      packed_bits = weight.shape[1] * 8 / std::max<int64_t>(x.shape[-1], 1);
    }
    tile_rows = tile.rows;
    cols = tile.cols;
    tiles = divide_up(rows, tile_rows);
    panels = divide_up(weight_rows, cols);
    if (geglu) panels = divide_up(out, cols / 2);
    batch = x.shape.rank() < 2 ? 1 : x.shape[0];
  }
  // Outputs of a panel.
  [[nodiscard]] int64_t panel_outputs() const { return geglu ? cols / 2 : cols; }
  // Weight row of a panel's column, or -1 beyond the last.
  [[nodiscard]] int64_t weight_row(int64_t panel, int64_t col) const {
    const int64_t outputs = panel_outputs();
    const int64_t o = panel * outputs + col % outputs;
    if (o >= out) return -1;
    return col < outputs ? o : out + o;
  }
  // As packed, of whole columns: `in` of a panel's rows or a slice of them.
  [[nodiscard]] size_t bytes_of(int64_t rows_of_panel) const {
    const auto bits =
        packed_bits > 0 ? packed_bits : 8 * static_cast<int64_t>(size_of(weight_dtype));
    return static_cast<size_t>(rows_of_panel * cols * bits / 8);
  }
  [[nodiscard]] size_t packed_bytes() const { return bytes_of(panels * in); }
};

struct LinearScratch {
  float *x, *bias, *row_add, *w_scale, *tiles, *slices;
  int8_t* codes;  // of a slice of packed integers
  size_t bytes;

  LinearScratch(const LinearPlan& plan, bool has_row_add, int threads, void* workspace) {
    Scratch scratch(workspace);
    const int64_t padded = plan.panels * plan.cols;
    x = scratch.take<float>(plan.tiles * plan.tile_rows * plan.in);
    bias = scratch.take<float>(padded);
    row_add = scratch.take<float>(has_row_add ? plan.batch * padded : 0);
    w_scale = scratch.take<float>(padded);
    tiles = scratch.take<float>(threads * tile_floats(plan));
    slices = scratch.take<float>(threads * kSlice * plan.cols);
    codes = scratch.take<int8_t>(plan.packed_bits > 0 ? threads * kSlice * plan.cols : 0);
    bytes = scratch.used_bytes();
  }
  // The f32 results of one task.
  static int64_t tile_floats(const LinearPlan& plan) {
    return std::min(kTilesPerTask, plan.tiles) * plan.tile_rows * plan.cols;
  }
};

class LinearLaunch final : public Launch {
 public:
  LinearLaunch(const graph::OpDesc& desc, const DeviceInfo& info, const Operands& operands)
      : plan_(desc, info),
        scratch_(plan_, desc.input(Role::kRowAdd) != nullptr, info.num_units, operands.workspace),
        ops_(*vector_ops(info)),
        threads_(useful_threads(info.num_units, plan_.rows * plan_.in * plan_.weight_rows)),
        panels_(find_view(desc, operands, Role::kWeight)->as<std::byte>()),
        x_(find_rows(desc, operands, Role::kX)),
        bias_(find_rows(desc, operands, Role::kBias)),
        row_add_(find_rows(desc, operands, Role::kRowAdd)),
        residual_(find_rows(desc, operands, Role::kResidual)),
        x_scale_(find_rows(desc, operands, Role::kXScale)),
        w_scale_(find_rows(desc, operands, Role::kWScale)),
        y_scale_(find_rows(desc, operands, Role::kYScale)),
        y_(operands.outputs[0]) {
    finish_.geglu = plan_.geglu;
    finish_.activation = desc.as<graph::Linear>().activation;
    finish_.sums_pitch = plan_.cols;
    finish_.residual_type = residual_.dtype;
    finish_.residual_pitch = residual_.pitch_bytes;
    finish_.out = y_.dtype;
    finish_.y_pitch = y_.pitch_bytes;
    finish_.x_scale_step = x_scale_ && x_scale_.size > 1 ? 1 : 0;
  }

  void enqueue(Stream& /*stream*/) const override {
    if (plan_.rows == 0) return;
    spread(bias_, 0, scratch_.bias);
    spread(w_scale_, 0, scratch_.w_scale);
    for (int64_t n = 0; row_add_ && n < plan_.batch; ++n) {
      spread(row_add_, n, scratch_.row_add + n * plan_.panels * plan_.cols);
    }
    parallel_for(threads_, plan_.tiles, [this](int64_t tile, int) { pack_tile(tile); });
    const int64_t blocks = divide_up(plan_.tiles, kTilesPerTask);
    parallel_for(threads_, blocks * plan_.panels, [this, blocks](int64_t task, int thread) {
      run_task(task % blocks, task / blocks, thread);
    });
  }

 private:
  // A row of per-output values in the panels' column order, 0 beyond the last.
  void spread(const Rows& values, int64_t row, float* to) const {
    if (!values) return;
    std::fill(to, to + plan_.panels * plan_.cols, 0.0F);
    for (int64_t panel = 0; panel < plan_.panels; ++panel) {
      const int64_t outputs = plan_.panel_outputs();
      for (int64_t col = 0; col < plan_.cols; col += outputs) {
        const int64_t count = std::min(outputs, plan_.out - panel * outputs);
        ops_.load(values.dtype, values.at(row, plan_.weight_row(panel, col)),
                  to + panel * plan_.cols + col, count);
      }
    }
  }

  // tile_rows rows of x side by side; rows beyond the last are 0.
  void pack_tile(int64_t tile) const {
    constexpr int64_t kPiece = 256;
    alignas(64) float values[kMaxTileRows * kPiece];
    float* to = scratch_.x + tile * plan_.tile_rows * plan_.in;
    for (int64_t col = 0; col < plan_.in; col += kPiece) {
      const int64_t n = std::min(kPiece, plan_.in - col);
      for (int64_t i = 0; i < plan_.tile_rows; ++i) {
        const int64_t row = tile * plan_.tile_rows + i;
        if (row < plan_.rows) {
          ops_.load(x_.dtype, x_.at(row, col), values + i * kPiece, n);
        } else {
          std::fill(values + i * kPiece, values + i * kPiece + n, 0.0F);
        }
      }
      ops_.transpose(values, kPiece, plan_.tile_rows, n, to + col * plan_.tile_rows,
                     plan_.tile_rows);
    }
  }

  void run_task(int64_t block, int64_t panel, int thread) const {
    const int64_t first = block * kTilesPerTask;
    const int64_t last = std::min(plan_.tiles, first + kTilesPerTask);
    float* sums = scratch_.tiles + thread * LinearScratch::tile_floats(plan_);
    for (int64_t k = 0; k < plan_.in; k += kSlice) {
      const int64_t depth = std::min(kSlice, plan_.in - k);
      const std::byte* slice = panels_ + plan_.bytes_of(panel * plan_.in + k);
      // Widening pays once a slice serves more than a few tiles.
      const bool direct = plan_.weight_dtype == DType::kF32 ||
                          (plan_.weight_dtype == DType::kBF16 && last - first <= 2);
      float* wide = scratch_.slices + thread * kSlice * plan_.cols;
      if (plan_.packed_bits > 0) {
        int8_t* codes = scratch_.codes + thread * kSlice * plan_.cols;
        ops_.unpack(slice, plan_.packed_bits, codes, depth * plan_.cols);
        slice = reinterpret_cast<const std::byte*>(codes);
      }
      if (!direct) ops_.load(plan_.weight_dtype, slice, wide, depth * plan_.cols);
      for (int64_t tile = first; tile < last; ++tile) {
        const float* a = scratch_.x + (tile * plan_.in + k) * plan_.tile_rows;
        float* c = sums + (tile - first) * plan_.tile_rows * plan_.cols;
        const int64_t rows = std::min(plan_.tile_rows, plan_.rows - tile * plan_.tile_rows);
        if (direct && plan_.weight_dtype == DType::kBF16) {
          ops_.matrix_tile.multiply_bf16(
              a, plan_.tile_rows, reinterpret_cast<const uint16_t*>(slice), depth, c, rows, k > 0);
        } else {
          const float* b = direct ? reinterpret_cast<const float*>(slice) : wide;
          ops_.matrix_tile.multiply(a, plan_.tile_rows, b, depth, c, rows, k > 0);
        }
      }
    }
    const int64_t first_row = first * plan_.tile_rows;
    const int64_t last_row = std::min(plan_.rows, last * plan_.tile_rows);
    const int64_t rows_of_batch = plan_.rows / plan_.batch;
    for (int64_t row = first_row; row < last_row;) {
      const int64_t n = row / rows_of_batch;
      const int64_t end = row_add_ ? std::min(last_row, (n + 1) * rows_of_batch) : last_row;
      finish(sums + (row - first_row) * plan_.cols, panel, row, end - row, n);
      row = end;
    }
  }

  // `count` rows of batch row n.
  void finish(const float* sums, int64_t panel, int64_t row, int64_t count, int64_t n) const {
    const int64_t outputs = plan_.panel_outputs();
    const int64_t col = panel * outputs;
    const int64_t padded = plan_.panels * plan_.cols;
    PanelFinish f = finish_;
    for (int side = 0; side < (plan_.geglu ? 2 : 1); ++side) {
      const int64_t at = panel * plan_.cols + side * outputs;
      f.sums[side] = sums + side * outputs;
      if (bias_) f.bias[side] = scratch_.bias + at;
      if (w_scale_) f.w_scale[side] = scratch_.w_scale + at;
      if (row_add_) f.row_add[side] = scratch_.row_add + n * padded + at;
    }
    if (x_scale_) {
      f.x_scale = reinterpret_cast<const float*>(x_scale_.data) + row * f.x_scale_step;
    }
    if (y_scale_) f.inverse = 1.0F / *reinterpret_cast<const float*>(y_scale_.data);
    if (residual_) f.residual = residual_.at(row, col);
    f.y = y_.at(row, col);
    ops_.finisher(f)(f, count, std::min(outputs, plan_.out - col));
  }

  LinearPlan plan_;
  LinearScratch scratch_;
  const VectorOps& ops_;
  int threads_;
  const std::byte* panels_;
  Rows x_, bias_, row_add_, residual_, x_scale_, w_scale_, y_scale_, y_;
  PanelFinish finish_;
};

Support supports(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (!info.has("avx2")) return Support::no("needs AVX2, FMA and F16C");
  if (graph::has_row_statistics(desc)) return Support::no("no row statistics");
  for (const graph::TypedOperand& operand : desc.inputs) {
    const bool product = operand.role == Role::kX || operand.role == Role::kWeight;
    if (is_vector_type(operand.type.dtype) || (product && graph::is_quantized(operand.type.dtype)))
      continue;
    return Support::no(fmt::format("no {}", to_string(operand.type)));
  }
  if (desc.input(Role::kX)->dtype == DType::kI8) return Support::no("int8 sums are not exact here");
  return Support::yes();
}

size_t workspace_bytes(const graph::OpDesc& desc, const DeviceInfo& info, Config /*config*/) {
  const bool has_row_add = desc.input(Role::kRowAdd) != nullptr;
  return LinearScratch(LinearPlan(desc, info), has_row_add, info.num_units, nullptr).bytes;
}

size_t packed_bytes(const graph::OpDesc& desc, const DeviceInfo& info, Config /*config*/) {
  return LinearPlan(desc, info).packed_bytes();
}

std::string pack_key(const graph::OpDesc& desc, const DeviceInfo& info, Config /*config*/) {
  const LinearPlan plan(desc, info);
  return fmt::format("panels{}{} {}{}", plan.cols, plan.geglu ? ".geglu" : "",
                     to_string(plan.weight_dtype),
                     plan.packed_bits > 0 ? fmt::format(" of {} bits", plan.packed_bits) : "");
}

template <class T>
void pack_panel(const LinearPlan& plan, const Rows& weight, int64_t panel, T* to) {
  for (int64_t col = 0; col < plan.cols; ++col) {
    const int64_t row = plan.weight_row(panel, col);
    const auto* from = row < 0 ? nullptr : reinterpret_cast<const T*>(weight.at(row));
    for (int64_t k = 0; k < plan.in; ++k)
      to[k * plan.cols + col] = from == nullptr ? T{0} : from[k];
  }
}

// Slice by slice: field p of byte i is value p * (bytes of the slice) + i of its [inputs][cols].
void pack_integers(const LinearPlan& plan, const Rows& weight, int64_t panel, std::byte* to) {
  std::memset(to, 0, plan.bytes_of(plan.in));
  const auto mask = (1U << plan.packed_bits) - 1U;
  for (int64_t col = 0; col < plan.cols; ++col) {
    const int64_t row = plan.weight_row(panel, col);
    if (row < 0) continue;
    const auto* from = reinterpret_cast<const uint8_t*>(weight.at(row));
    for (int64_t k = 0; k < plan.in; ++k) {
      const int64_t first = k / kSlice * kSlice;
      const auto part = static_cast<int64_t>(plan.bytes_of(std::min(kSlice, plan.in - first)));
      const int64_t at = (k - first) * plan.cols + col;
      const auto field = static_cast<uint32_t>(packed_at(from, k, plan.packed_bits)) & mask;
      to[static_cast<int64_t>(plan.bytes_of(first)) + at % part] |=
          static_cast<std::byte>(field << (at / part * plan.packed_bits));
    }
  }
}

void pack(const graph::OpDesc& desc, const DeviceInfo& info, Config /*config*/,
          const TensorView& weight, void* packed) {
  const LinearPlan plan(desc, info);
  const Rows rows(weight);
  const int64_t panel_elements = plan.in * plan.cols;
  parallel_for(info.num_units, plan.panels, [&](int64_t panel, int) {
    if (plan.packed_bits > 0) {
      pack_integers(plan, rows, panel,
                    static_cast<std::byte*>(packed) + plan.bytes_of(panel * plan.in));
    } else if (size_of(plan.weight_dtype) == 1) {
      pack_panel(plan, rows, panel, static_cast<uint8_t*>(packed) + panel * panel_elements);
    } else if (size_of(plan.weight_dtype) == 4) {
      pack_panel(plan, rows, panel, static_cast<uint32_t*>(packed) + panel * panel_elements);
    } else {
      pack_panel(plan, rows, panel, static_cast<uint16_t*>(packed) + panel * panel_elements);
    }
  });
}

std::unique_ptr<Launch> prepare(const graph::OpDesc& desc, const DeviceInfo& info,
                                Config /*config*/, const Operands& operands) {
  return std::make_unique<LinearLaunch>(desc, info, operands);
}

}  // namespace

const Kernel linear_panels = {.name = "cpu.linear.panels",
                              .op = graph::OpKind::kLinear,
                              .supports = supports,
                              .configs = nullptr,
                              .workspace_bytes = workspace_bytes,
                              .packed_bytes = packed_bytes,
                              .pack_key = pack_key,
                              .pack = pack,
                              .prepare = prepare};

}  // namespace halftone::backend::cpu
