// Group and layer normalisation.
#include <algorithm>
#include <cmath>
#include <utility>

#include "backend/cpu/call.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/kernels/quantized_rows.h"
#include "backend/cpu/parallel.h"

namespace halftone::backend::cpu {
namespace {

// Mean and sum of squared deviations of `count` values.
struct Moments {
  double count = 0.0;
  double mean = 0.0;
  double squares = 0.0;

  // Chan's pairwise combination.
  void add(const Moments& other) {
    if (other.count == 0.0) return;
    const double total = count + other.count;
    const double delta = other.mean - mean;
    mean += delta * other.count / total;
    squares += other.squares + delta * delta * count * other.count / total;
    count = total;
  }
};

// Group normalisation cuts the positions of a batch row into pieces that stay in the second level
// cache. Moments of pieces are combined in order, so the result does not depend on the number of
// threads. A second pass normalises; where somebody measured x, there is no first one.
struct GroupNormPlan {
  int64_t batch = 0, positions = 0, channels = 0, groups = 0;
  int64_t rows_per_piece = 1, pieces = 0;

  explicit GroupNormPlan(const graph::OpDesc& desc) {
    const Shape& shape = desc.output().shape;
    batch = shape[0];
    channels = shape[-1];
    groups = desc.as<graph::GroupNorm>().groups;
    positions = batch == 0 ? 0 : shape.num_rows() / batch;
    constexpr int64_t kPieceElements = 1 << 15;
    rows_per_piece = std::clamp<int64_t>(kPieceElements / std::max<int64_t>(channels, 1), 1, 256);
    pieces = divide_up(positions, rows_per_piece);
  }
};

// Parts of the workspace. `lanes`: three rows of channels for every thread; `maxima`: one value.
struct GroupNormScratch {
  float *gamma, *beta, *mean, *scale, *lanes, *maxima;
  Moments* moments;
  size_t bytes;

  GroupNormScratch(const GroupNormPlan& plan, int threads, void* workspace) {
    Scratch scratch(workspace);
    gamma = scratch.take<float>(plan.channels);
    beta = scratch.take<float>(plan.channels);
    mean = scratch.take<float>(plan.batch * plan.channels);
    scale = scratch.take<float>(plan.batch * plan.channels);
    lanes = scratch.take<float>(int64_t{3} * threads * plan.channels);
    maxima = scratch.take<float>(threads);
    moments = scratch.take<Moments>(plan.batch * plan.pieces * plan.groups);
    bytes = scratch.used_bytes();
  }
};

class GroupNormLaunch final : public Launch {
 public:
  GroupNormLaunch(const graph::OpDesc& desc, const DeviceInfo& info, const Operands& operands)
      : plan_(desc),
        scratch_(plan_, info.num_units, operands.workspace),
        ops_(*vector_ops(info)),
        threads_(useful_threads(info.num_units, 32 * desc.output().shape.num_elements())),
        eps_(desc.as<graph::GroupNorm>().eps),
        activation_(desc.as<graph::GroupNorm>().activation),
        x_(find_rows(desc, operands, graph::Role::kX)),
        gamma_(find_rows(desc, operands, graph::Role::kGamma)),
        beta_(find_rows(desc, operands, graph::Role::kBeta)),
        statistics_(find_rows(desc, operands, graph::Role::kGroupStatistics)),
        y_(operands.outputs[0]),
        quantized_(desc, operands, ops_, desc.as<graph::GroupNorm>().out,
                   desc.as<graph::GroupNorm>().granularity, desc.as<graph::GroupNorm>().dynamic) {}

  void enqueue(Stream& /*stream*/) const override {
    ops_.load(gamma_.dtype, gamma_.data, scratch_.gamma, plan_.channels);
    ops_.load(beta_.dtype, beta_.data, scratch_.beta, plan_.channels);
    const int64_t tasks = plan_.batch * plan_.pieces;
    if (statistics_) {
      parallel_for(threads_, plan_.batch * plan_.groups, [this](int64_t group, int) {
        set_scale(group / plan_.groups, group % plan_.groups, merged_statistics(group));
      });
    } else {
      parallel_for(threads_, tasks, [this](int64_t task, int thread) { measure(task, thread); });
      for (int64_t n = 0; n < plan_.batch; ++n) combine(n);
    }
    if (quantized_ && quantized_.wants_tensor_maximum()) {
      std::fill_n(scratch_.maxima, threads_, 0.0F);
      parallel_for(threads_, tasks, [this](int64_t task, int thread) {
        float& maximum = scratch_.maxima[thread];
        normalize(task, thread, [&](const float* values, int64_t) {
          maximum = std::max(maximum, ops_.largest(values, plan_.channels));
        });
      });
      quantized_.set_tensor_maximum(*std::max_element(scratch_.maxima, scratch_.maxima + threads_));
    }
    const bool direct = !quantized_ || quantized_.is_static_i8();
    parallel_for(threads_, tasks, [&](int64_t task, int thread) {
      if (direct) return normalize(task);
      normalize(task, thread,
                [this](const float* values, int64_t row) { quantized_.store(values, row); });
    });
  }

 private:
  // The thread's i-th row of channels.
  [[nodiscard]] float* lane(int thread, int i) const {
    return scratch_.lanes + (thread * 3 + i) * plan_.channels;
  }
  // The first row of x in a piece, and the one after its last.
  [[nodiscard]] std::pair<int64_t, int64_t> rows_of(int64_t task) const {
    const int64_t first = task % plan_.pieces * plan_.rows_per_piece;
    const int64_t last = std::min(plan_.positions, first + plan_.rows_per_piece);
    const int64_t base = task / plan_.pieces * plan_.positions;
    return {base + first, base + last};
  }
  // Moments of the piece's groups, from deviations of each channel from its first value.
  void measure(int64_t task, int thread) const {
    const int64_t position = task % plan_.pieces * plan_.rows_per_piece;
    const int64_t rows = std::min(plan_.rows_per_piece, plan_.positions - position);
    const int64_t row = task / plan_.pieces * plan_.positions + position;
    float* first = lane(thread, 0);
    float* sums = lane(thread, 1);
    float* squares = lane(thread, 2);
    ops_.load(x_.dtype, x_.at(row), first, plan_.channels);
    ops_.column_moments(x_.dtype, x_.at(row), x_.pitch_bytes, rows, plan_.channels, first, sums,
                        squares);
    const int64_t width = plan_.channels / plan_.groups;
    const auto count = static_cast<double>(rows);
    const auto mean_of = [&](int64_t c) {
      return static_cast<double>(first[c]) + static_cast<double>(sums[c]) / count;
    };
    for (int64_t g = 0; g < plan_.groups; ++g) {
      double mean = 0.0;
      for (int64_t c = g * width; c < (g + 1) * width; ++c) mean += mean_of(c);
      mean /= static_cast<double>(width);
      double deviations = 0.0;
      for (int64_t c = g * width; c < (g + 1) * width; ++c) {
        const auto sum = static_cast<double>(sums[c]);
        const double distance = mean_of(c) - mean;
        deviations +=
            static_cast<double>(squares[c]) - sum * sum / count + count * distance * distance;
      }
      scratch_.moments[task * plan_.groups + g] = {count * static_cast<double>(width), mean,
                                                   std::max(deviations, 0.0)};
    }
  }

  void combine(int64_t n) const {
    for (int64_t g = 0; g < plan_.groups; ++g) {
      Moments all;
      for (int64_t piece = 0; piece < plan_.pieces; ++piece) {
        all.add(scratch_.moments[(n * plan_.pieces + piece) * plan_.groups + g]);
      }
      set_scale(n, g, all);
    }
  }
  // Of pieces of equal size that somebody else measured, about their common mean.
  [[nodiscard]] Moments merged_statistics(int64_t group) const {
    const int64_t pieces = plan_.positions / graph::kRowsPerPiece;
    const auto pair = [&](int64_t piece) {
      return reinterpret_cast<const float*>(statistics_.at(group * pieces + piece));
    };
    const int64_t channels = plan_.channels / plan_.groups;  // a whole number: groups are equal
    const auto size = static_cast<double>(graph::kRowsPerPiece * channels);
    Moments all{size * static_cast<double>(pieces), 0.0, 0.0};
    for (int64_t i = 0; i < pieces; ++i) all.mean += static_cast<double>(pair(i)[0]);
    all.mean /= static_cast<double>(pieces);
    for (int64_t i = 0; i < pieces; ++i) {
      const double distance = static_cast<double>(pair(i)[0]) - all.mean;
      all.squares += static_cast<double>(pair(i)[1]) + size * distance * distance;
    }
    return all;
  }
  void set_scale(int64_t n, int64_t g, const Moments& all) const {
    const int64_t width = plan_.channels / plan_.groups;
    const double inverse = 1.0 / std::sqrt(all.squares / std::max(all.count, 1.0) + eps_);
    for (int64_t c = g * width; c < (g + 1) * width; ++c) {
      scratch_.mean[n * plan_.channels + c] = static_cast<float>(all.mean);
      scratch_.scale[n * plan_.channels + c] =
          static_cast<float>(inverse * static_cast<double>(scratch_.gamma[c]));
    }
  }

  // `rows` normalised rows, and i8 times `inverse`.
  void normalize_rows(int64_t row, int64_t rows, int64_t n, DType to, float inverse, void* y,
                      int64_t y_pitch) const {
    ops_.normalize_columns({.from = x_.dtype,
                            .to = to,
                            .activation = activation_,
                            .mean = scratch_.mean + n * plan_.channels,
                            .scale = scratch_.scale + n * plan_.channels,
                            .shift = scratch_.beta,
                            .inverse = inverse,
                            .x = x_.at(row),
                            .x_pitch = x_.pitch_bytes,
                            .y = static_cast<std::byte*>(y),
                            .y_pitch = y_pitch,
                            .rows = rows,
                            .n = plan_.channels});
  }
  // The rows of a piece, to where they belong.
  void normalize(int64_t task) const {
    const auto [first, last] = rows_of(task);
    const int64_t step = quantized_ ? quantized_.rows_per_scale() : x_.count;
    for (int64_t row = first, end = 0; row < last; row = end) {
      end = std::min(last, (row / step + 1) * step);
      const float inverse = quantized_ ? quantized_.static_inverse(row) : 1.0F;
      normalize_rows(row, end - row, task / plan_.pieces, y_.dtype, inverse, y_.at(row),
                     y_.pitch_bytes);
    }
  }
  // take(values, row) for the finished rows of a piece.
  template <class F>
  void normalize(int64_t task, int thread, F take) const {
    float* result = lane(thread, 0);
    const auto [first, last] = rows_of(task);
    for (int64_t row = first; row < last; ++row) {
      normalize_rows(row, 1, task / plan_.pieces, DType::kF32, 1.0F, result, 0);
      take(result, row);
    }
  }

  GroupNormPlan plan_;
  GroupNormScratch scratch_;
  const VectorOps& ops_;
  int threads_;
  double eps_;
  graph::Activation activation_;
  Rows x_, gamma_, beta_, statistics_, y_;
  QuantizedRows quantized_;
};

size_t group_norm_workspace(const graph::OpDesc& desc, const DeviceInfo& info, Config /*config*/) {
  return GroupNormScratch(GroupNormPlan(desc), info.num_units, nullptr).bytes;
}

std::unique_ptr<Launch> prepare_group_norm(const graph::OpDesc& desc, const DeviceInfo& info,
                                           Config /*config*/, const Operands& operands) {
  return std::make_unique<GroupNormLaunch>(desc, info, operands);
}

// gamma and beta as f32, two rows and a maximum for every thread.
struct LayerNormScratch {
  float *gamma, *beta, *rows, *maxima;
  size_t bytes;

  LayerNormScratch(int64_t size, int threads, void* workspace) {
    Scratch scratch(workspace);
    gamma = scratch.take<float>(size);
    beta = scratch.take<float>(size);
    rows = scratch.take<float>(int64_t{2} * threads * size);
    maxima = scratch.take<float>(threads);
    bytes = scratch.used_bytes();
  }
};

size_t layer_norm_workspace(const graph::OpDesc& desc, const DeviceInfo& info, Config /*config*/) {
  return LayerNormScratch(desc.output().shape.row_size(), info.num_units, nullptr).bytes;
}

class LayerNormLaunch final : public Launch {
 public:
  LayerNormLaunch(const graph::OpDesc& desc, const DeviceInfo& info, const Operands& operands)
      : scratch_(desc.output().shape.row_size(), info.num_units, operands.workspace),
        ops_(*vector_ops(info)),
        threads_(useful_threads(info.num_units, 32 * desc.output().shape.num_elements())),
        eps_(static_cast<float>(desc.as<graph::LayerNorm>().eps)),
        x_(find_rows(desc, operands, graph::Role::kX)),
        gamma_(find_rows(desc, operands, graph::Role::kGamma)),
        beta_(find_rows(desc, operands, graph::Role::kBeta)),
        y_(operands.outputs[0]),
        quantized_(desc, operands, ops_, desc.as<graph::LayerNorm>().out,
                   desc.as<graph::LayerNorm>().granularity, desc.as<graph::LayerNorm>().dynamic) {}

  void enqueue(Stream& /*stream*/) const override {
    ops_.load(gamma_.dtype, gamma_.data, scratch_.gamma, y_.size);
    ops_.load(beta_.dtype, beta_.data, scratch_.beta, y_.size);
    if (quantized_ && quantized_.wants_tensor_maximum()) {
      std::fill_n(scratch_.maxima, threads_, 0.0F);
      for_rows([this](const float* values, int64_t, int thread) {
        float& maximum = scratch_.maxima[thread];
        maximum = std::max(maximum, ops_.largest(values, y_.size));
      });
      quantized_.set_tensor_maximum(*std::max_element(scratch_.maxima, scratch_.maxima + threads_));
    }
    for_rows([this](const float* values, int64_t row, int) {
      if (quantized_) return quantized_.store(values, row);
      ops_.store(values, y_.dtype, y_.at(row), y_.size);
    });
  }

 private:
  // take(values, row, thread) for the normalised rows.
  template <class F>
  void for_rows(F take) const {
    const auto count = static_cast<float>(y_.size);
    constexpr int64_t kRows = 8;  // a task's
    parallel_for(threads_, divide_up(y_.count, kRows), [&](int64_t task, int thread) {
      float* values = scratch_.rows + int64_t{2} * thread * y_.size;
      float* result = values + y_.size;
      for (int64_t row = task * kRows; row < std::min(y_.count, (task + 1) * kRows); ++row) {
        ops_.load(x_.dtype, x_.at(row), values, y_.size);
        const float mean = ops_.sum(values, y_.size) / count;
        const float variance = ops_.squares(values, mean, y_.size) / count;
        ops_.normalize_row(values, mean, 1.0F / std::sqrt(variance + eps_), scratch_.gamma,
                           scratch_.beta, result, y_.size);
        take(result, row, thread);
      }
    });
  }

  LayerNormScratch scratch_;
  const VectorOps& ops_;
  int threads_;
  float eps_;
  Rows x_, gamma_, beta_, y_;
  QuantizedRows quantized_;
};

std::unique_ptr<Launch> prepare_layer_norm(const graph::OpDesc& desc, const DeviceInfo& info,
                                           Config /*config*/, const Operands& operands) {
  return std::make_unique<LayerNormLaunch>(desc, info, operands);
}

Support supports_norm(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (!info.has("avx2")) return Support::no("needs AVX2, FMA and F16C");
  const auto* norm = std::get_if<graph::GroupNorm>(&desc.attrs);
  if (norm != nullptr && (norm->joins || std::ranges::count(desc.inputs, graph::Role::kX,
                                                            &graph::TypedOperand::role) > 1)) {
    return Support::no("reads one tensor and passes nothing on");
  }
  for (const graph::TypedOperand& operand : desc.inputs) {
    if (!is_vector_type(operand.type.dtype)) return Support::no("wants f32, f16 or bf16");
  }
  return Support::yes();
}

constexpr Kernel norm_kernel(std::string_view name, graph::OpKind op,
                             decltype(Kernel::workspace_bytes) workspace_bytes,
                             decltype(Kernel::prepare) prepare) {
  Kernel kernel = plain_kernel(name, op, supports_norm, prepare);
  kernel.workspace_bytes = workspace_bytes;
  return kernel;
}

}  // namespace

const Kernel group_norm_vector = norm_kernel("cpu.group_norm.vector", graph::OpKind::kGroupNorm,
                                             group_norm_workspace, prepare_group_norm);
const Kernel layer_norm_vector = norm_kernel("cpu.layer_norm.vector", graph::OpKind::kLayerNorm,
                                             layer_norm_workspace, prepare_layer_norm);

}  // namespace halftone::backend::cpu
