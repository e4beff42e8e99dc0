// Linear and convolution on panels: int8 rows with 8-, 4- or 2-bit weights, summed exactly, and
// bf16 rows with bf16 or integer weights, on AMX.
//
// Output rows are cut into tiles of 16, of one image row and batch row. A task is a chunk of tiles
// times some panels of 32 columns. A block is 32 rows of a panel (with geglu, of values and of
// their gates): its sums stay in the first level cache and are finished from there, piece by piece,
// while the tiles of the next block multiply. Left rows are read where they lie when they fill
// whole tiles and steps; for the others, those at the edges of a convolution too, strips are copied
// once a call, with zeros for the padding.
//
// Group statistics of the results are summed while they are stored: a piece of 64 rows is four
// tiles that a worker finishes one after the other, and its groups lie in one panel. Interleaved
// results (graph/ops/subpixel.h) go where they belong at once: a panel's columns are of one parity.
#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "backend/cpu/kernels.h"
#include "backend/cpu/kernels/panel_weight.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/tuning.h"

namespace halftone::backend::cpu {
namespace {

using graph::Role;

// Left rows of a chunk stay in the second level cache.
constexpr int64_t kChunkBytes = 768 << 10;
constexpr int64_t kLeastChunkTiles = 16, kMostChunkTiles = 64;
// Rows of a piece of finishing: pieces are what a product does between its steps.
constexpr int64_t kPieceRows[] = {4, 8};
// What stands for an operand that is absent.
alignas(64) constexpr std::array<float, kPanelCols> kZeros{};
alignas(64) constexpr std::array<float, kPanelCols> kOnes = [] {
  std::array<float, kPanelCols> ones{};
  ones.fill(1.0F);
  return ones;
}();
constexpr int64_t kTasksPerThread = 8;
constexpr int64_t kMostLines = 16;  // read ahead at a step
constexpr int64_t kTilesPerPiece = graph::kRowsPerPiece / kPanelRows;

struct RowTile {
  int64_t line;   // of the output, of all batch rows
  int64_t first;  // position in it
  int64_t count;  // rows, up to 16
};

// How the output positions of an image read the input.
struct Window {
  int64_t batch = 1, height = 1, width = 1;  // of x
  int64_t out_height = 1, out_width = 1;     // of y
  int64_t kernel_height = 1, kernel_width = 1, stride = 1;
  int64_t before = 0;  // padding before both axes

  explicit Window(const graph::OpDesc& desc) {
    const Shape& x = desc.input(Role::kX)->shape;
    const Shape& y = desc.output().shape;
    if (graph::kind_of(desc.attrs) == graph::OpKind::kLinear) {
      const bool split = desc.input(Role::kRowAdd) != nullptr && x.rank() > 1;
      batch = split ? x[0] : 1;
      width = out_width = x.num_rows() / std::max<int64_t>(batch, 1);
      return;
    }
    const auto& op = desc.as<graph::Conv2d>();
    const Shape& weight = desc.input(Role::kWeight)->shape;
    batch = x[0];
    height = x[1];
    width = x[2];
    const bool interleaved = graph::is_interleaved(desc);
    out_height = interleaved ? y[1] / 2 + 1 : y[1];
    out_width = interleaved ? y[2] / 2 + 1 : y[2];
    kernel_height = weight[1];
    kernel_width = weight[2];
    stride = op.stride;
    before = op.pad_begin;
    if (interleaved) return;  // results go by line and position
    if (kernel_height * kernel_width > 1 || stride > 1 || op.pad_begin + op.pad_end > 0) return;
    width = out_width = height * width;  // positions are independent
    height = out_height = 1;
  }
};

PanelWeight panel_weight(const graph::OpDesc& desc) {
  const bool geglu =
      graph::kind_of(desc.attrs) == graph::OpKind::kLinear && desc.as<graph::Linear>().geglu;
  return {*desc.input(Role::kX), *desc.input(Role::kWeight), geglu};
}

struct PanelPlan {
  PanelWeight weight;
  Window window;
  int64_t position_bytes = 0;  // of a left row, whole steps
  std::vector<RowTile> tiles;
  // The strip of each tile of a line, -1 where the tile reads x itself; and their number.
  std::vector<int64_t> strips;
  int64_t num_strips = 0;
  int64_t chunk_tiles = 0, panels_per_task = 0;

  PanelPlan(const graph::OpDesc& desc, int threads) : weight(panel_weight(desc)), window(desc) {
    const int64_t tiles_per_row = divide_up(window.out_width, kPanelRows);
    position_bytes = weight.tap_steps * kStepBytes;
    const bool whole_steps = weight.channels % weight.step_elements() == 0;
    for (int64_t i = 0; i < tiles_per_row; ++i) {
      const int64_t first = first_position(i);
      const bool inside = whole_steps && (i + 1) * kPanelRows <= window.out_width && first >= 0 &&
                          first + strip_positions() <= window.width;
      strips.push_back(inside ? -1 : num_strips++);
    }
    for (int64_t line = 0; line < window.batch * window.out_height; ++line) {
      for (int64_t first = 0; first < window.out_width; first += kPanelRows) {
        tiles.push_back({line, first, std::min(kPanelRows, window.out_width - first)});
      }
    }
    cut_tasks(threads);
  }

  // Of x, that the first tap of a line's i-th tile reads first.
  [[nodiscard]] int64_t first_position(int64_t i) const {
    return i * kPanelRows * window.stride - window.before;
  }
  // That all taps of a line of the kernel read for a tile.
  [[nodiscard]] int64_t strip_positions() const {
    return (kPanelRows - 1) * window.stride + window.kernel_width;
  }
  // Strips of every line of x, then a position of zeros for what lies above and below.
  [[nodiscard]] int64_t strip_bytes() const { return strip_positions() * position_bytes; }
  // Whether a line of the kernel may lie above or below x.
  [[nodiscard]] bool reads_outside() const {
    const int64_t last = (window.out_height - 1) * window.stride - window.before;
    return window.before > 0 || last + window.kernel_height > window.height;
  }
  [[nodiscard]] int64_t num_copies() const { return window.batch * window.height * num_strips; }
  [[nodiscard]] int64_t copy_bytes() const {
    return num_copies() * strip_bytes() + (reads_outside() ? position_bytes : 0);
  }
  [[nodiscard]] int64_t num_chunks() const {
    return divide_up(static_cast<int64_t>(tiles.size()), chunk_tiles);
  }
  [[nodiscard]] int64_t tasks_per_chunk() const {
    return divide_up(weight.panels, panels_per_task);
  }
  // Columns of all panels, with those that fill the last.
  [[nodiscard]] int64_t padded_cols() const { return weight.groups * weight.panels * kPanelCols; }

 private:
  // Several panels a task, so that left rows are read by one thread, while tasks are enough to
  // balance threads.
  void cut_tasks(int threads) {
    const int64_t tile_bytes = kPanelRows * window.stride * window.stride * position_bytes;
    chunk_tiles = kChunkBytes / std::max<int64_t>(tile_bytes, 1) / 2 * 2;
    chunk_tiles = std::clamp(chunk_tiles / kTilesPerPiece * kTilesPerPiece, kLeastChunkTiles,
                             kMostChunkTiles);
    if (weight.is_expanded()) chunk_tiles = kMostChunkTiles;  // pays for expanding a panel
    const int64_t tasks = divide_up(kTasksPerThread * threads, std::max<int64_t>(num_chunks(), 1));
    panels_per_task = std::max<int64_t>(weight.panels / tasks, 1);
  }
};

struct PanelScratch {
  static constexpr int64_t kMoments = 3 * kMomentCols;  // of a thread

  std::byte *strips, *expanded;
  float *bias, *w_scale, *row_add, *sums, *moments;
  size_t bytes;

  PanelScratch(const PanelPlan& plan, bool has_row_add, int threads, void* workspace) {
    Scratch scratch(workspace);
    strips = scratch.take<std::byte>(plan.copy_bytes());
    bias = scratch.take<float>(plan.padded_cols());
    w_scale = scratch.take<float>(plan.padded_cols());
    row_add = scratch.take<float>(has_row_add ? plan.window.batch * plan.padded_cols() : 0);
    sums = scratch.take<float>(int64_t{2} * threads * plan.weight.groups * kPanelSums);
    moments = scratch.take<float>(threads * kMoments);
    expanded = scratch.take<std::byte>(
        plan.weight.is_expanded() ? threads * plan.weight.groups * plan.weight.panel_bytes() : 0);
    bytes = scratch.used_bytes();
  }
};

class PanelLaunch final : public Launch {
 public:
  PanelLaunch(const graph::OpDesc& desc, const DeviceInfo& info, const Operands& operands)
      : plan_(desc, info.num_units),
        scratch_(plan_, desc.input(Role::kRowAdd) != nullptr, info.num_units, operands.workspace),
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
    if (graph::makes_statistics(desc)) {
      statistics_ = Rows(operands.outputs[1]);
      images_ = operands.outputs[1].type.shape[0];
      groups_ = operands.outputs[1].type.shape[1];
    }
    if (graph::is_interleaved(desc)) parity_channels_ = y_.size;
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
    finish_.y_pitch = parity_channels_ > 0 ? 2 * y_.pitch_bytes : y_.pitch_bytes;
    finish_.moments = statistics_ ? scratch_.moments : nullptr;  // a worker has its own
    finish_.x_scale = kOnes.data();
    for (int64_t group = 0; group < plan_.weight.groups; ++group) {
      finish_.w_scale[group] = kOnes.data();
      finish_.bias[group] = finish_.row_add[group] = kZeros.data();
    }
    finish_part_ = ops_.finisher(finish_);
    finish_whole_ = ops_.whole_finisher(finish_, static_cast<bool>(residual_));
    choose_passing(desc, info);
  }

  void enqueue(Stream& /*stream*/) const override { run(); }

 private:
  void run() const {
    spread(bias_, 0, scratch_.bias);
    spread(w_scale_, 0, scratch_.w_scale);
    for (int64_t n = 0; row_add_ && n < plan_.window.batch; ++n) {
      spread(row_add_, n, scratch_.row_add + n * plan_.padded_cols());
    }
    constexpr int64_t kCopies = 8;  // of a task
    parallel_for(threads_, divide_up(plan_.num_copies(), kCopies), [&](int64_t task, int) {
      for (int64_t i = task * kCopies; i < std::min((task + 1) * kCopies, plan_.num_copies());
           ++i) {
        copy_strip(i);
      }
    });
    if (plan_.reads_outside()) {
      std::memset(zeros(), 0, static_cast<size_t>(plan_.position_bytes));
    }
    std::vector<Worker> workers(static_cast<size_t>(threads_));
    const auto worker = [&](int thread) -> Worker& { return workers[static_cast<size_t>(thread)]; };
    for (int i = 0; i < threads_; ++i) prepare_worker(i, worker(i));
    parallel_for(
        threads_, plan_.num_chunks() * plan_.tasks_per_chunk(),
        [&](int64_t task, int thread) { run_task(task, worker(thread)); },
        [&](int thread) { finish_rest(worker(thread)); });
  }

  // Rows of the next block's results or residual, from the one that the next piece fetches.
  struct Fetch {
    const std::byte* row = nullptr;
    int64_t pitch = 0, bytes = 0;  // bytes: of a row, 0 = nothing is fetched
  };

  // Of one thread: the block whose sums are to be finished while the next one's tiles multiply.
  struct alignas(64) Worker {
    const PanelLaunch* launch = nullptr;
    std::vector<LeftTap> taps[2];
    std::byte* expanded = nullptr;
    float* sums[2][2] = {};  // [buffer][group]
    int buffer = 0;          // that the next block fills
    const RowTile* tiles = nullptr;
    int64_t col = 0;
    int64_t piece = 0, pieces = 0;
    // The block that multiplies meanwhile, to be finished next.
    const RowTile* next_tiles = nullptr;
    int64_t next_col = 0, next_pieces = 0;
    // Of the tile that the next piece lies in: the finish of its row `done`, before which no result
    // is missing, the row that the next piece begins with, and the first that makes no result.
    PanelFinish finish;
    FinishRows finish_rows = nullptr;
    int64_t cols = 0;
    int64_t done = 0, row = kPanelRows, end = 0;
    Fetch fetches[2];
  };

  void prepare_worker(int thread, Worker& worker) const {
    const PanelWeight& weight = plan_.weight;
    worker.launch = this;
    worker.finish = finish_;
    if (statistics_) worker.finish.moments += thread * PanelScratch::kMoments;
    if (y_scale_) worker.finish.inverse = 1.0F / *reinterpret_cast<const float*>(y_scale_.data);
    for (std::vector<LeftTap>& taps : worker.taps) taps.resize(static_cast<size_t>(weight.taps));
    worker.expanded = scratch_.expanded + thread * weight.groups * weight.panel_bytes();
    for (int64_t i = 0; i < 2 * weight.groups; ++i) {
      worker.sums[i / weight.groups][i % weight.groups] =
          scratch_.sums + (int64_t{2} * thread * weight.groups + i) * kPanelSums;
    }
  }

  // Which operand stays in the first level cache and how long pieces are is measured where there is
  // much to multiply.
  void choose_passing(const graph::OpDesc& desc, const DeviceInfo& info) {
    const PanelWeight& weight = plan_.weight;
    const auto& candidates = finish_.integer ? products_.multiply_i8 : products_.multiply_bf16;
    multiply_ = candidates[0];
    const int64_t rows = desc.output().shape.num_rows();
    constexpr int64_t kMuch = int64_t{1} << 26;
    if (candidates[1] == nullptr ||
        rows * weight.cols * weight.groups * weight.steps * weight.step_elements() < kMuch) {
      return;
    }
    touch();
    const std::string key =
        fmt::format("panels {} {} threads {} rows of {}, {} columns of {} x {} steps, to {}",
                    info.arch, threads_, rows, to_string(desc.input(Role::kX)->shape),
                    weight.cols * weight.groups, weight.key(), weight.steps, to_string(y_.dtype));
    const auto take = [&](int candidate) {
      multiply_ = candidates[candidate % kPassings];
      piece_rows_ = kPieceRows[candidate / kPassings];
    };
    take(fastest(key, kPassings * static_cast<int>(std::size(kPieceRows)), [&](int candidate) {
      take(candidate);
      run();
    }));
  }
  // Pages that nobody wrote to are all one page, and would look as if they were in the cache.
  void touch() const {
    constexpr int64_t kPage = 4096;
    volatile std::byte* bytes = x_.data;
    for (int64_t at = 0; at < x_.count * x_.pitch_bytes; at += kPage) bytes[at] = bytes[at];
  }

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

  [[nodiscard]] std::byte* strip(int64_t line, int64_t index) const {
    return scratch_.strips + (line * plan_.num_strips + index) * plan_.strip_bytes();
  }
  [[nodiscard]] std::byte* zeros() const {
    return scratch_.strips + plan_.num_copies() * plan_.strip_bytes();
  }

  // What a tile reads of a line of x: zeros beside the positions and after the channels.
  void copy_strip(int64_t index) const {
    const Window& w = plan_.window;
    const int64_t line = index / plan_.num_strips;
    const auto tile = std::ranges::find(plan_.strips, index % plan_.num_strips);
    const auto bytes = static_cast<size_t>(plan_.weight.channels * plan_.weight.element_bytes());
    const auto pitch = static_cast<size_t>(plan_.position_bytes);
    std::byte* to = strip(line, *tile);
    int64_t x = plan_.first_position(tile - plan_.strips.begin());
    for (int64_t i = 0; i < plan_.strip_positions(); ++i, ++x, to += pitch) {
      const bool inside = x >= 0 && x < w.width;
      if (inside) std::memcpy(to, x_.at(line * w.width + x), bytes);
      std::memset(to + (inside ? bytes : 0), 0, pitch - (inside ? bytes : 0));
    }
  }

  void run_task(int64_t task, Worker& worker) const {
    const PanelWeight& weight = plan_.weight;
    const int64_t first = task / plan_.tasks_per_chunk() * plan_.chunk_tiles;
    const int64_t last =
        std::min(first + plan_.chunk_tiles, static_cast<int64_t>(plan_.tiles.size()));
    const int64_t panel = task % plan_.tasks_per_chunk() * plan_.panels_per_task;
    products_.begin();
    for (int64_t i = panel; i < std::min(panel + plan_.panels_per_task, weight.panels); ++i) {
      run_panel(first, last, i, worker);
    }
    products_.end();
  }

  void run_panel(int64_t first, int64_t last, int64_t panel, Worker& worker) const {
    const PanelWeight& weight = plan_.weight;
    const std::byte* panels[2] = {};
    for (int64_t group = 0; group < weight.groups; ++group) {
      panels[group] =
          weight.panel(ops_, panels_, group, panel, worker.expanded + group * weight.panel_bytes());
    }
    PanelWork work{run_piece, &worker};
    // The next panel comes in while this one's blocks multiply.
    const bool reads_ahead = panel + 1 < weight.panels;
    if (reads_ahead) {
      const int64_t steps = divide_up(last - first, 2) * weight.steps;
      work.ahead_lines =
          std::min(divide_up(weight.stored_panel_bytes(), steps * kStepBytes), kMostLines);
    }
    const int64_t block_lines = work.ahead_lines * weight.steps;
    for (int64_t tile = first; tile < last; tile += 2) {
      const bool two = tile + 1 < last;
      find_taps(plan_.tiles[static_cast<size_t>(tile)], worker.taps[0]);
      if (two) find_taps(plan_.tiles[static_cast<size_t>(tile + 1)], worker.taps[1]);
      const LeftTiles left{{worker.taps[0].data(), two ? worker.taps[1].data() : nullptr},
                           weight.taps,
                           weight.tap_steps};
      worker.next_tiles = &plan_.tiles[static_cast<size_t>(tile)];
      worker.next_col = panel * kPanelCols;
      worker.next_pieces = (two ? 2 : 1) * kPanelRows / piece_rows_;
      for (int64_t group = 0; group < weight.groups; ++group) {
        work.pieces = (worker.pieces - worker.piece) / (weight.groups - group);
        if (reads_ahead) {
          work.ahead = weight.stored_panel(panels_, group, panel + 1) +
                       (tile - first) / 2 * block_lines * kStepBytes;
        }
        multiply_(left, panels[group], worker.sums[worker.buffer][group], work);
      }
      worker.buffer ^= 1;
      worker.tiles = worker.next_tiles;
      worker.col = worker.next_col;
      worker.piece = 0;
      worker.row = kPanelRows;
      worker.pieces = worker.next_pieces;
      worker.next_pieces = 0;
    }
  }

  // Where a tile's rows lie for every tap.
  void find_taps(const RowTile& tile, std::vector<LeftTap>& taps) const {
    const Window& w = plan_.window;
    const int64_t batch = tile.line / w.out_height;
    const int64_t y = tile.line % w.out_height * w.stride - w.before;
    const int64_t i = tile.first / kPanelRows;
    const int64_t strip_index = plan_.strips[static_cast<size_t>(i)];
    LeftTap* tap = taps.data();
    for (int64_t ky = 0; ky < w.kernel_height; ++ky) {
      const bool inside = y + ky >= 0 && y + ky < w.height;
      const int64_t line = batch * w.height + y + ky;
      const int64_t pitch = strip_index < 0 ? x_.pitch_bytes : plan_.position_bytes;
      const std::byte* rows = zeros();
      if (inside && strip_index < 0) rows = x_.at(line * w.width + plan_.first_position(i));
      if (inside && strip_index >= 0) rows = strip(line, strip_index);
      for (int64_t kx = 0; kx < w.kernel_width; ++kx, ++tap) {
        *tap = {rows, inside ? pitch * w.stride : 0};
        if (inside) rows += pitch;
      }
    }
  }

  static void run_piece(void* context) {
    auto& worker = *static_cast<Worker*>(context);
    worker.launch->finish_piece(worker);
  }

  void finish_rest(Worker& worker) const {
    while (worker.piece < worker.pieces) finish_piece(worker);
  }

  // The next rows of the worker's block. As few operations as can be: next to none of what stands
  // between two steps is hidden behind the products once it is longer than a step.
  void finish_piece(Worker& worker) const {
    if (worker.row == kPanelRows) begin_tile(worker);
    ++worker.piece;
    for (Fetch& fetch : worker.fetches) fetch_rows(fetch);
    worker.row += piece_rows_;
    const int64_t rows = std::min(worker.row, worker.end) - worker.done;
    if (rows > 0) {
      worker.finish_rows(worker.finish, rows, worker.cols);
      worker.done += rows;
    }
    if (!statistics_ || worker.row < kPanelRows) return;
    const RowTile& tile = worker.tiles[(worker.piece - 1) * piece_rows_ / kPanelRows];
    if (tile.first / kPanelRows % kTilesPerPiece == kTilesPerPiece - 1) {
      store_statistics(tile, worker);
    }
  }

  // What the next block reads and writes comes into the second level cache.
  void fetch_rows(Fetch& fetch) const {
    constexpr int64_t kLine = 64;
    if (fetch.bytes == 0) return;
    for (int64_t i = 0; i < piece_rows_; ++i, fetch.row += fetch.pitch) {
      for (int64_t at = 0; at < fetch.bytes; at += kLine) {
        __builtin_prefetch(fetch.row + at, 0, 2);
      }
    }
  }

  // Of the tile's positions, the first and the last but one of which a result is made: of the sums
  // of an interleaved convolution some belong to no pixel.
  [[nodiscard]] std::pair<int64_t, int64_t> results_of(const RowTile& tile, int64_t col) const {
    if (parity_channels_ == 0) return {0, tile.count};
    const Window& w = plan_.window;
    const int64_t parity = col / parity_channels_;
    const int64_t line = tile.line % w.out_height;
    if (line == (parity / 2 == 0 ? w.out_height - 1 : 0)) return {kPanelRows, 0};
    return {std::max<int64_t>(parity % 2 - tile.first, 0),
            std::min(tile.count, w.out_width - 1 + parity % 2 - tile.first)};
  }
  // Where the result of a position of the convolution lies; when interleaved outside of y where
  // none is made of it.
  [[nodiscard]] std::byte* result_at(int64_t line, int64_t position, int64_t col) const {
    const Window& w = plan_.window;
    if (parity_channels_ == 0) return y_.at(line * w.out_width + position, col);
    const int64_t parity = col / parity_channels_;
    const int64_t image = line / w.out_height * 2 * (w.out_height - 1);
    const int64_t row = image + 2 * (line % w.out_height) - parity / 2;
    return y_.at(row * 2 * (w.out_width - 1) + 2 * position - parity % 2, col % parity_channels_);
  }

  // Of the piece that ends with this tile, the groups of the worker's panel.
  void store_statistics(const RowTile& tile, const Worker& worker) const {
    constexpr auto kRows = static_cast<double>(graph::kRowsPerPiece);
    const int64_t width = plan_.weight.cols / groups_;
    const int64_t pieces = statistics_.count / (groups_ * images_);
    const int64_t piece = (tile.line * plan_.window.out_width + tile.first) / graph::kRowsPerPiece;
    const int64_t cols = std::min(kPanelCols, plan_.weight.cols - worker.col);
    const float* value = worker.finish.moments;
    const float* sum = value + kMomentCols;
    const float* squares = sum + kMomentCols;
    double means[kPanelCols];
    for (int64_t c = 0; c < cols; ++c) {
      means[c] = static_cast<double>(value[c]) + static_cast<double>(sum[c]) / kRows;
    }
    for (int64_t first = 0; first < cols; first += width) {
      double mean = 0.0;
      for (int64_t c = first; c < first + width; ++c) mean += means[c];
      mean /= static_cast<double>(width);
      double deviations = 0.0;
      for (int64_t c = first; c < first + width; ++c) {
        const auto off = static_cast<double>(sum[c]);
        const double distance = means[c] - mean;
        deviations +=
            static_cast<double>(squares[c]) - off * off / kRows + kRows * distance * distance;
      }
      const int64_t group = piece / pieces * groups_ + (worker.col + first) / width;
      auto* to = reinterpret_cast<float*>(statistics_.at(group * pieces + piece % pieces));
      to[0] = static_cast<float>(mean);
      to[1] = static_cast<float>(std::max(deviations, 0.0));
    }
  }

  // The tile of the block that the next piece begins.
  void begin_tile(Worker& worker) const {
    const PanelWeight& weight = plan_.weight;
    const int64_t index = worker.piece * piece_rows_ / kPanelRows;
    const RowTile& tile = worker.tiles[index];
    const int64_t col = worker.col;
    const int64_t row = tile.line * plan_.window.out_width + tile.first;
    const int64_t batch = tile.line / plan_.window.out_height;
    PanelFinish& f = worker.finish;
    worker.cols = std::min(kPanelCols, weight.cols - col);
    worker.finish_rows = worker.cols == kPanelCols ? finish_whole_ : finish_part_;
    for (int64_t group = 0; group < weight.groups; ++group) {
      const int64_t at = group * weight.panels * kPanelCols + col;
      f.sums[group] = worker.sums[worker.buffer ^ 1][group] + index * kPanelRows * kPanelCols;
      if (w_scale_) f.w_scale[group] = scratch_.w_scale + at;
      if (bias_) f.bias[group] = scratch_.bias + at;
      if (row_add_) f.row_add[group] = scratch_.row_add + batch * plan_.padded_cols() + at;
    }
    if (x_scale_) {
      f.x_scale = reinterpret_cast<const float*>(x_scale_.data) + row * f.x_scale_step;
    }
    if (residual_) f.residual = residual_.at(row, col);
    f.y = result_at(tile.line, tile.first, col);
    f.moments_begin = tile.first / kPanelRows % kTilesPerPiece == 0;
    std::tie(worker.done, worker.end) = results_of(tile, col);
    f.advance(worker.done);
    worker.row = 0;
    find_fetches(worker, index);
  }

  void find_fetches(Worker& worker, int64_t index) const {
    Fetch& results = worker.fetches[0];
    Fetch& residual = worker.fetches[1];
    results.bytes = residual.bytes = 0;
    if (index * kPanelRows / piece_rows_ >= worker.next_pieces) return;
    const RowTile& tile = worker.next_tiles[index];
    const auto row_bytes = [](DType dtype) {
      return kPanelCols * static_cast<int64_t>(size_of(dtype));
    };
    results = {result_at(tile.line, tile.first, worker.next_col), finish_.y_pitch,
               row_bytes(y_.dtype)};
    if (!residual_) return;
    residual = {residual_.at(tile.line * plan_.window.out_width + tile.first, worker.next_col),
                residual_.pitch_bytes, row_bytes(residual_.dtype)};
  }

  PanelPlan plan_;
  PanelScratch scratch_;
  const VectorOps& ops_;
  const PanelOps& products_;
  PanelOps::Multiply multiply_ = nullptr;
  int64_t piece_rows_ = kPieceRows[0];
  int threads_;
  const std::byte* panels_;
  Rows x_, bias_, row_add_, residual_, x_scale_, w_scale_, y_scale_, y_;
  Rows statistics_;
  int64_t groups_ = 0, images_ = 0;  // of statistics
  int64_t parity_channels_ = 0;      // of y, where it is interleaved
  PanelFinish finish_;
  FinishRows finish_part_ = nullptr, finish_whole_ = nullptr;  // columns of a panel
};

bool is_scale(Role role) {
  return role == Role::kXScale || role == Role::kWScale || role == Role::kYScale;
}

// What both element types want: floating values around the products, and something to do.
Support supports_around(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (!info.has("avx2")) return Support::no("needs AVX2, FMA and F16C");
  if (graph::has_row_statistics(desc)) return Support::no("no row statistics");
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

// Where a panel holds whole groups and four tiles of a line are a piece.
Support supports_statistics(const graph::OpDesc& desc) {
  const auto at =
      std::ranges::find(desc.outputs, Role::kGroupStatistics, &graph::TypedOperand::role);
  if (at == desc.outputs.end()) return Support::no("makes group statistics only");
  const int64_t width = desc.output().shape[-1] / at->type.shape[1];
  const bool fits = width <= kPanelCols && kPanelCols % width == 0 &&
                    Window(desc).out_width % graph::kRowsPerPiece == 0;
  if (!fits || panel_weight(desc).groups > 1) return Support::no("groups beyond a panel");
  return Support::yes();
}

Support supports_i8(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (desc.input(Role::kX)->dtype != DType::kI8) return Support::no("wants int8 rows");
  if (graph::is_interleaved(desc) && desc.output().shape[-1] % kPanelCols != 0) {
    return Support::no("interleaves whole panels only");
  }
  if (graph::makes_statistics(desc)) {
    if (const Support support = supports_statistics(desc); !support.ok) return support;
  }
  return supports_around(desc, info);
}

Support supports_bf16(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (!info.has("amx_bf16") || !info.has("amx_int8")) return Support::no("needs AMX");
  if (graph::is_interleaved(desc)) return Support::no("does not interleave");
  const DType weight = desc.input(Role::kWeight)->dtype;
  if (desc.input(Role::kX)->dtype != DType::kBF16) return Support::no("wants bf16 rows");
  if (weight != DType::kBF16 && weight != DType::kI8 && weight != DType::kU8) {
    return Support::no("wants bf16 or integer weights");
  }
  const PanelOps* products = panel_ops(info);
  if (products == nullptr || products->multiply_bf16[0] == nullptr) return Support::no("needs AMX");
  return supports_around(desc, info);
}

std::unique_ptr<Launch> prepare(const graph::OpDesc& desc, const DeviceInfo& info,
                                Config /*config*/, const Operands& operands) {
  return std::make_unique<PanelLaunch>(desc, info, operands);
}

Kernel panel_kernel(std::string_view name, graph::OpKind op, decltype(Kernel::supports) supports,
                    bool statistics = false) {
  Kernel kernel = plain_kernel(name, op, supports, prepare);
  kernel.statistics = statistics;
  kernel.workspace_bytes = [](const graph::OpDesc& desc, const DeviceInfo& info, Config) {
    const bool has_row_add = desc.input(Role::kRowAdd) != nullptr;
    return PanelScratch(PanelPlan(desc, info.num_units), has_row_add, info.num_units, nullptr)
        .bytes;
  };
  kernel.packed_bytes = [](const graph::OpDesc& desc, const DeviceInfo&, Config) {
    return panel_weight(desc).packed_bytes();
  };
  kernel.pack_key = [](const graph::OpDesc& desc, const DeviceInfo&, Config) {
    return panel_weight(desc).key();
  };
  kernel.pack = [](const graph::OpDesc& desc, const DeviceInfo& info, Config,
                   const TensorView& weight, void* packed) {
    panel_weight(desc).pack(info.num_units, weight, static_cast<std::byte*>(packed));
  };
  return kernel;
}

}  // namespace

const Kernel linear_i8 = panel_kernel("cpu.linear.i8", graph::OpKind::kLinear, supports_i8, true);
const Kernel conv2d_i8 = panel_kernel("cpu.conv2d.i8", graph::OpKind::kConv2d, supports_i8, true);
const Kernel linear_amx = panel_kernel("cpu.linear.amx", graph::OpKind::kLinear, supports_bf16);
const Kernel conv2d_amx = panel_kernel("cpu.conv2d.amx", graph::OpKind::kConv2d, supports_bf16);

}  // namespace halftone::backend::cpu
