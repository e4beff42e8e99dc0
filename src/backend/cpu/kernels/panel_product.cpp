// Linear and convolution on panels: int8 rows with 8-, 4- or 2-bit weights, summed exactly, and
// bf16 rows with bf16 or integer weights, on AMX.
//
// Output rows are cut into tiles of 16, of one image row and batch row. A task is a chunk of tiles
// times a panel of 32 columns (with geglu, of values and of their gates): sums of 32 rows stay in
// the first level cache and are finished from there. Left rows are read where they lie when they
// fill whole tiles and steps; else a copy is made once a call, with zeros for the padding.
#include <algorithm>
#include <cstring>

#include "backend/cpu/kernels.h"
#include "backend/cpu/kernels/panel_weight.h"
#include "backend/cpu/parallel.h"

namespace halftone::backend::cpu {
namespace {

using graph::Role;

constexpr int64_t kChunkTiles = 16;  // 256 rows: their left operand stays in the second level cache

struct RowTile {
  int64_t left;   // bytes from the first left row
  int64_t row;    // first output row
  int64_t count;  // rows, up to 16
  int64_t batch;
};

// How the output positions of an image read the input.
struct Window {
  int64_t batch = 1, height = 1, width = 1;          // of x
  int64_t out_height = 1, out_width = 1;             // of y
  int64_t kernel_width = 1, stride = 1, before = 0;  // padding before both axes
  int64_t padded_height = 1, padded_width = 1;
  bool moves = false;  // more than one tap, a stride or padding

  explicit Window(const graph::OpDesc& desc) {
    const Shape& x = desc.input(Role::kX)->shape;
    const Shape& y = desc.output().shape;
    if (graph::kind_of(desc.attrs) == graph::OpKind::kLinear) {
      const bool split = desc.input(Role::kRowAdd) != nullptr && x.rank() > 1;
      batch = split ? x[0] : 1;
      width = out_width = padded_width = x.num_rows() / std::max<int64_t>(batch, 1);
      return;
    }
    const auto& op = desc.as<graph::Conv2d>();
    const Shape& weight = desc.input(Role::kWeight)->shape;
    batch = x[0];
    height = x[1];
    width = x[2];
    out_height = y[1];
    out_width = y[2];
    kernel_width = weight[2];
    stride = op.stride;
    before = op.pad_begin;
    padded_height = height + op.pad_begin + op.pad_end;
    padded_width = width + op.pad_begin + op.pad_end;
    moves = weight[1] * weight[2] > 1 || stride > 1 || op.pad_begin + op.pad_end > 0;
    if (moves) return;
    width = out_width = padded_width = height * width;  // positions are independent
    height = out_height = padded_height = 1;
  }
};

struct PanelPlan {
  PanelWeight weight;
  Window window;
  int64_t position_bytes = 0;  // of a left row
  bool copies = false;
  std::vector<RowTile> tiles;

  explicit PanelPlan(const graph::OpDesc& desc)
      : weight(*desc.input(Role::kX), *desc.input(Role::kWeight), is_geglu(desc)), window(desc) {
    const int64_t tiles_per_row = divide_up(window.out_width, kPanelRows);
    copies = window.moves || weight.channels % weight.step_elements() != 0 ||
             window.out_width % kPanelRows != 0;
    position_bytes = weight.tap_steps * kStepBytes;
    for (int64_t line = 0; line < window.batch * window.out_height; ++line) {
      for (int64_t i = 0; i < tiles_per_row; ++i) {
        const int64_t first = i * kPanelRows;
        const int64_t batch = line / window.out_height;
        const int64_t padded_line =
            batch * window.padded_height + line % window.out_height * window.stride;
        const int64_t position = padded_line * window.padded_width + first * window.stride;
        tiles.push_back({position * position_bytes, line * window.out_width + first,
                         std::min(kPanelRows, window.out_width - first), batch});
      }
    }
  }

  static bool is_geglu(const graph::OpDesc& desc) {
    return graph::kind_of(desc.attrs) == graph::OpKind::kLinear && desc.as<graph::Linear>().geglu;
  }
  // Of a copied left operand; the last tile may read beyond the last position.
  [[nodiscard]] int64_t copy_bytes() const {
    if (!copies) return 0;
    const int64_t positions = window.batch * window.padded_height * window.padded_width;
    return (positions + kPanelRows * window.stride + window.kernel_width) * position_bytes;
  }
  // Of every step of a row.
  [[nodiscard]] std::vector<int64_t> offsets() const {
    std::vector<int64_t> result;
    for (int64_t tap = 0; tap < weight.taps; ++tap) {
      const int64_t line = tap / window.kernel_width;
      const int64_t position = line * window.padded_width + tap % window.kernel_width;
      for (int64_t step = 0; step < weight.tap_steps; ++step) {
        result.push_back(position * position_bytes + step * kStepBytes);
      }
    }
    return result;
  }
  // Columns of all panels, with those that fill the last.
  [[nodiscard]] int64_t padded_cols() const { return weight.groups * weight.panels * kPanelCols; }
};

struct PanelScratch {
  std::byte *left, *expanded;
  float *bias, *w_scale, *row_add, *sums;
  size_t bytes;

  PanelScratch(const PanelPlan& plan, bool has_row_add, int threads, void* workspace) {
    Scratch scratch(workspace);
    left = scratch.take<std::byte>(plan.copy_bytes());
    bias = scratch.take<float>(plan.padded_cols());
    w_scale = scratch.take<float>(plan.padded_cols());
    row_add = scratch.take<float>(has_row_add ? plan.window.batch * plan.padded_cols() : 0);
    sums = scratch.take<float>(threads * plan.weight.groups * kPanelSums);
    expanded = scratch.take<std::byte>(
        plan.weight.is_expanded() ? threads * plan.weight.groups * plan.weight.panel_bytes() : 0);
    bytes = scratch.used_bytes();
  }
};

class PanelLaunch final : public Launch {
 public:
  PanelLaunch(const graph::OpDesc& desc, const DeviceInfo& info, const Operands& operands)
      : plan_(desc),
        scratch_(plan_, desc.input(Role::kRowAdd) != nullptr, info.num_units, operands.workspace),
        offsets_(plan_.offsets()),
        ops_(*vector_ops(info)),
        products_(*panel_ops(info)),
        threads_(useful_threads(info.num_units, desc.output().shape.num_rows() * plan_.weight.cols *
                                                    plan_.weight.taps * plan_.weight.channels / 4)),
        panels_(find_view(desc, operands, Role::kWeight)->as<std::byte>()),
        x_(find_rows(desc, operands, Role::kX)),
        bias_(find_rows(desc, operands, Role::kBias)),
        row_add_(find_rows(desc, operands, Role::kRowAdd)),
        residual_(find_rows(desc, operands, Role::kResidual)),
        x_scale_(find_rows(desc, operands, Role::kXScale)),
        w_scale_(find_rows(desc, operands, Role::kWScale)),
        y_scale_(find_rows(desc, operands, Role::kYScale)),
        y_(operands.outputs[0]) {
    finish_.integer = plan_.weight.left == DType::kI8;
    finish_.geglu = plan_.weight.groups == 2;
    finish_.activation = graph::kind_of(desc.attrs) == graph::OpKind::kLinear
                             ? desc.as<graph::Linear>().activation
                             : desc.as<graph::Conv2d>().activation;
    finish_.sums_pitch = kPanelCols;
    finish_.residual_type = residual_.dtype;
    finish_.out = y_.dtype;
    finish_.x_scale_step = x_scale_ && x_scale_.size > 1 ? 1 : 0;
    finish_.residual_pitch = residual_.pitch_bytes;
    finish_.y_pitch = y_.pitch_bytes;
  }

  void enqueue(Stream& /*stream*/) const override {
    spread(bias_, 0, scratch_.bias);
    spread(w_scale_, 0, scratch_.w_scale);
    for (int64_t n = 0; row_add_ && n < plan_.window.batch; ++n) {
      spread(row_add_, n, scratch_.row_add + n * plan_.padded_cols());
    }
    if (plan_.copies) {
      parallel_for(threads_, plan_.window.batch * plan_.window.padded_height,
                   [this](int64_t line, int) { copy_line(line); });
    }
    const auto num_tiles = static_cast<int64_t>(plan_.tiles.size());
    // Expanding a panel pays for more rows; a panel as it lies is read again by every chunk.
    const int64_t chunk = plan_.weight.is_expanded() ? 4 * kChunkTiles : kChunkTiles;
    parallel_for(threads_, divide_up(num_tiles, chunk) * plan_.weight.panels,
                 [this, chunk](int64_t task, int thread) {
                   run_task(task / plan_.weight.panels * chunk, chunk, task % plan_.weight.panels,
                            thread);
                 });
  }

 private:
  // A row of per-output values in the panels' column order, 0 beyond a group's last.
  void spread(const Rows& values, int64_t row, float* to) const {
    if (!values) return;
    const PanelWeight& weight = plan_.weight;
    const int64_t padded = weight.panels * kPanelCols;
    std::fill(to, to + plan_.padded_cols(), 0.0F);
    for (int64_t group = 0; group < weight.groups; ++group) {
      ops_.load(values.dtype, values.at(row, group * weight.cols), to + group * padded,
                weight.cols);
    }
  }

  // A line of the padded input: zeros around the positions and after the channels.
  void copy_line(int64_t line) const {
    const Window& w = plan_.window;
    const size_t bytes = static_cast<size_t>(plan_.weight.channels * plan_.weight.element_bytes());
    const auto pitch = static_cast<size_t>(plan_.position_bytes);
    std::byte* to = scratch_.left + line * w.padded_width * plan_.position_bytes;
    const int64_t y = line % w.padded_height - w.before;
    const int64_t first_row = (line / w.padded_height * w.height + y) * w.width;
    for (int64_t i = 0; i < w.padded_width; ++i, to += pitch) {
      const int64_t x = i - w.before;
      const bool inside = y >= 0 && y < w.height && x >= 0 && x < w.width;
      if (inside) std::memcpy(to, x_.at(first_row + x), bytes);
      std::memset(to + (inside ? bytes : 0), 0, pitch - (inside ? bytes : 0));
    }
  }

  void run_task(int64_t first, int64_t count, int64_t panel, int thread) const {
    const PanelWeight& weight = plan_.weight;
    const int64_t last = std::min(first + count, static_cast<int64_t>(plan_.tiles.size()));
    const int64_t row_bytes =
        (plan_.copies ? plan_.position_bytes : x_.pitch_bytes) * plan_.window.stride;
    const std::byte* panels[2] = {};
    float* sums[2] = {};
    for (int64_t group = 0; group < weight.groups; ++group) {
      const int64_t buffer = thread * weight.groups + group;
      panels[group] = weight.panel(ops_, panels_, group, panel,
                                   scratch_.expanded + buffer * weight.panel_bytes());
      sums[group] = scratch_.sums + buffer * kPanelSums;
    }
    const auto multiply = finish_.integer ? products_.multiply_i8 : products_.multiply_bf16;
    products_.begin();
    for (int64_t tile = first; tile < last; tile += 2) {
      const bool two = tile + 1 < last;
      const LeftTiles left{
          {left_rows(tile), two ? left_rows(tile + 1) : nullptr}, row_bytes, offsets_.data()};
      for (int64_t group = 0; group < weight.groups; ++group) {
        multiply(left, panels[group], weight.steps, sums[group]);
      }
      finish(tile, panel, sums, 0);
      if (two) finish(tile + 1, panel, sums, kPanelRows * kPanelCols);
    }
    products_.end();
  }

  [[nodiscard]] const std::byte* left_rows(int64_t tile) const {
    const RowTile& t = plan_.tiles[static_cast<size_t>(tile)];
    return plan_.copies ? scratch_.left + t.left : x_.at(t.row);
  }

  void finish(int64_t tile, int64_t panel, float* const* sums, int64_t first_sum) const {
    const RowTile& t = plan_.tiles[static_cast<size_t>(tile)];
    const PanelWeight& weight = plan_.weight;
    const int64_t col = panel * kPanelCols;
    PanelFinish f = finish_;
    for (int64_t group = 0; group < weight.groups; ++group) {
      const int64_t at = group * weight.panels * kPanelCols + col;
      f.sums[group] = sums[group] + first_sum;
      if (w_scale_) f.w_scale[group] = scratch_.w_scale + at;
      if (bias_) f.bias[group] = scratch_.bias + at;
      if (row_add_) f.row_add[group] = scratch_.row_add + t.batch * plan_.padded_cols() + at;
    }
    if (x_scale_) {
      f.x_scale = reinterpret_cast<const float*>(x_scale_.data) + t.row * f.x_scale_step;
    }
    if (y_scale_) f.inverse = 1.0F / *reinterpret_cast<const float*>(y_scale_.data);
    if (residual_) f.residual = residual_.at(t.row, col);
    f.y = y_.at(t.row, col);
    ops_.finish_panel(f, t.count, std::min(kPanelCols, weight.cols - col));
  }

  PanelPlan plan_;
  PanelScratch scratch_;
  std::vector<int64_t> offsets_;
  const VectorOps& ops_;
  const PanelOps& products_;
  int threads_;
  const std::byte* panels_;
  Rows x_, bias_, row_add_, residual_, x_scale_, w_scale_, y_scale_, y_;
  PanelFinish finish_;
};

bool is_scale(Role role) {
  return role == Role::kXScale || role == Role::kWScale || role == Role::kYScale;
}

// What both element types want: floating values around the products, and something to do.
Support supports_around(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (!info.has("avx2")) return Support::no("needs AVX2, FMA and F16C");
  if (graph::is_interleaved(desc)) return Support::no("does not interleave");
  for (const graph::TypedOperand& operand : desc.inputs) {
    if (operand.type.shape.num_elements() == 0) return Support::no("empty operand");
    const bool product = operand.role == Role::kX || operand.role == Role::kWeight;
    if (!product && !is_vector_type(operand.type.dtype) && !is_scale(operand.role)) {
      return Support::no("wants floating bias, row add and residual");
    }
  }
  const DType out = desc.output().dtype;
  if (!is_vector_type(out) && out != DType::kI8) return Support::no("makes no f8e4m3");
  return Support::yes();
}

Support supports_i8(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (desc.input(Role::kX)->dtype != DType::kI8) return Support::no("wants int8 rows");
  return supports_around(desc, info);
}

Support supports_bf16(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (!info.has("amx_bf16") || !info.has("amx_int8")) return Support::no("needs AMX");
  const DType weight = desc.input(Role::kWeight)->dtype;
  if (desc.input(Role::kX)->dtype != DType::kBF16) return Support::no("wants bf16 rows");
  if (weight != DType::kBF16 && weight != DType::kI8 && weight != DType::kU8) {
    return Support::no("wants bf16 or integer weights");
  }
  const PanelOps* products = panel_ops(info);
  if (products == nullptr || products->multiply_bf16 == nullptr) return Support::no("needs AMX");
  return supports_around(desc, info);
}

std::unique_ptr<Launch> prepare(const graph::OpDesc& desc, const DeviceInfo& info,
                                Config /*config*/, const Operands& operands) {
  return std::make_unique<PanelLaunch>(desc, info, operands);
}

Kernel panel_kernel(std::string_view name, graph::OpKind op, decltype(Kernel::supports) supports) {
  Kernel kernel = plain_kernel(name, op, supports, prepare);
  kernel.workspace_bytes = [](const graph::OpDesc& desc, const DeviceInfo& info, Config) {
    const bool has_row_add = desc.input(Role::kRowAdd) != nullptr;
    return PanelScratch(PanelPlan(desc), has_row_add, info.num_units, nullptr).bytes;
  };
  kernel.packed_bytes = [](const graph::OpDesc& desc, const DeviceInfo&, Config) {
    return PanelPlan(desc).weight.packed_bytes();
  };
  kernel.pack_key = [](const graph::OpDesc& desc, const DeviceInfo&, Config) {
    return PanelPlan(desc).weight.key();
  };
  kernel.pack = [](const graph::OpDesc& desc, const DeviceInfo& info, Config,
                   const TensorView& weight, void* packed) {
    PanelPlan(desc).weight.pack(info.num_units, weight, static_cast<std::byte*>(packed));
  };
  return kernel;
}

}  // namespace

const Kernel linear_i8 = panel_kernel("cpu.linear.i8", graph::OpKind::kLinear, supports_i8);
const Kernel conv2d_i8 = panel_kernel("cpu.conv2d.i8", graph::OpKind::kConv2d, supports_i8);
const Kernel linear_amx = panel_kernel("cpu.linear.amx", graph::OpKind::kLinear, supports_bf16);
const Kernel conv2d_amx = panel_kernel("cpu.conv2d.amx", graph::OpKind::kConv2d, supports_bf16);

}  // namespace halftone::backend::cpu
