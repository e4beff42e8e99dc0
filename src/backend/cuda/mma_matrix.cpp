#include "backend/cuda/mma_matrix.h"

#include <algorithm>
#include <span>
#include <vector>

#include <fmt/format.h>

#include "backend/cuda/context.h"
#include "backend/cuda/measure.h"
#include "backend/cuda/quantize.h"
#include "backend/cuda/quantized_matrix.h"

namespace halftone::backend::cuda {
namespace {

using graph::Role;

constexpr int kFirstWithClusters = 90;
constexpr int64_t kPieceBytes = 16;      // of a copy
constexpr int64_t kMaxGrid = 65535;      // tiles in a direction
constexpr int64_t kMaxTerms = 1 << 24;   // of a sum: offsets in 32 bits, sums of codes too
constexpr int64_t kMaxPixels = 1 << 30;  // of an image

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Terms of a sum.
int64_t terms_of(const graph::OpDesc& desc) {
  const Shape& weight = desc.input(Role::kWeight)->shape;
  const int64_t taps = weight.rank() == 4 ? weight[1] * weight[2] : 1;
  return taps * desc.input(Role::kX)->shape.row_size();
}

// Clocks of a product in blocks of `tile`, its terms split `splits` times: the tensor cores' (as
// mma.sync reaches them) or the second level cache's, and the exchange of partial sums.
double clocks(MmaTile tile, int splits, const MmaMatrixArgs& a, int64_t row_bytes, int num_sms) {
  constexpr double kBytesPerClock = 1500.0;  // of a row and column of products
  constexpr double kLoadedPerClock = 47.0;
  constexpr double kBlock = 1500.0;     // begin and end
  constexpr double kExchange = 1500.0;  // partial sums
  const double code_share = static_cast<double>(a.matrix.weight_format.bits) / 8.0 /
                            static_cast<double>(size_of(a.matrix.x.dtype));
  const int columns = columns_of(tile) / (a.epilogue.geglu ? 2 : 1);
  const int64_t tiles =
      divide_up(a.epilogue.rows, rows_of(tile)) * divide_up(a.epilogue.cols, columns);
  const int64_t steps = divide_up(divide_up(row_bytes, step_bytes_of(tile)), splits);
  const double products = static_cast<double>(rows_of(tile) * columns_of(tile)) / kBytesPerClock;
  const double loads = (rows_of(tile) + columns_of(tile) * code_share) / kLoadedPerClock;
  const double block = static_cast<double>(steps * step_bytes_of(tile)) * std::max(products, loads);
  const auto waves = static_cast<double>(divide_up(tiles * splits, num_sms));
  return waves * (block + kBlock) + (splits > 1 ? kExchange : 0.0);
}

struct Choice {
  MmaTile tile;
  int splits;
  double clocks;

  [[nodiscard]] std::string name() const {
    return fmt::format("{}x{} k{}", rows_of(tile), columns_of(tile), splits);
  }
};

// The fastest by estimate first.
std::vector<Choice> choices_of(const MmaMatrixArgs& args, int64_t row_bytes,
                               const DeviceInfo& info) {
  const int num_sms = std::max(info.num_units, 1);
  const int most = capability(info) >= kFirstWithClusters ? kMaxMmaSplits : 1;
  const bool conv = args.matrix.kernel_h * args.matrix.kernel_w > 1 || args.matrix.h > 1;
  std::vector<Choice> choices;
  for (const MmaTile tile : {MmaTile::k16x64, MmaTile::k80x64, MmaTile::k128x128}) {
    if (conv && tile == MmaTile::k16x64) continue;
    for (int splits = 1; splits <= most; ++splits) {
      if (splits > divide_up(row_bytes, step_bytes_of(tile))) break;
      choices.push_back({tile, splits, clocks(tile, splits, args, row_bytes, num_sms)});
    }
  }
  std::ranges::stable_sort(choices, {}, &Choice::clocks);
  return choices;
}

Choice fastest(std::span<const Choice> choices, const std::string& key, MmaMatrixArgs args,
               LaunchMma launch) {
  if (const auto known = context().tuning.find(key)) {
    for (const Choice& choice : choices) {
      if (choice.name() == *known) return choice;
    }
  }
  constexpr size_t kMeasured = 5;
  const Choice* best = nullptr;
  double best_ms = 0;
  for (const Choice& choice : choices.first(std::min(kMeasured, choices.size()))) {
    args.tile = choice.tile;
    args.splits = choice.splits;
    const double ms = measure_ms([&] { launch(args, context().stream); });
    if (best != nullptr && ms >= best_ms) continue;
    best = &choice;
    best_ms = ms;
  }
  context().tuning.insert(key, best->name());
  return *best;
}

}  // namespace

Support supports_mma_matrix(const graph::OpDesc& desc, const DeviceInfo& info) {
  if (Support base = supports_quantized(desc, info); !base.ok) return base;
  constexpr int kFirst = 80;
  if (capability(info) < kFirst) return Support::no("needs compute capability 8.0");
  const TensorType& x = *desc.input(Role::kX);
  const TensorType& weight = *desc.input(Role::kWeight);
  const Shape& y = desc.output().shape;
  if (y.num_elements() == 0 || x.shape.row_size() == 0) return Support::no("nothing to compute");
  const int64_t terms = terms_of(desc);
  const int64_t code_bytes = weight.shape.num_elements() / weight.shape[0];
  if (x.shape.row_size() * static_cast<int64_t>(size_of(x.dtype)) % kPieceBytes != 0 ||
      code_bytes % kPieceBytes != 0) {
    return Support::no("wants rows of x and of the weight of multiples of 16 bytes");
  }
  const int64_t bits = 8 * code_bytes / terms;
  if (bits != 8 && bits != 4 && bits != 2) return Support::no("wants codes of 8, 4 or 2 bits");
  if (terms >= kMaxTerms || divide_up(y.num_rows(), rows_of(MmaTile::k16x64)) > kMaxGrid ||
      divide_up(weight_rows(desc), columns_of(MmaTile::k80x64)) > kMaxGrid) {
    return Support::no("too large");
  }
  if (x.shape.rank() == 4 && x.shape[1] * x.shape[2] >= kMaxPixels) {
    return Support::no("the image is too large");
  }
  return Support::yes();
}

MmaMatrixArgs mma_args(const graph::OpDesc& desc, const DeviceInfo& info, const Operands& operands,
                       LaunchMma launch) {
  MmaMatrixArgs args;
  args.matrix = matrix_args(desc, operands);
  args.epilogue = epilogue_of(desc, operands, {});
  if (const TensorView* y_scale = find_view(desc, operands, Role::kYScale)) {
    args.y_scale = y_scale->as<float>();
    args.y_format = code_format(desc.output().dtype, 8, false);
  }
  args.constant_weight = is_constant(desc, operands, Role::kWeight);
  constexpr int64_t kTogether = 8;
  args.eight = args.epilogue.cols % kTogether == 0;
  const int64_t row_bytes =
      terms_of(desc) * static_cast<int64_t>(size_of(desc.input(Role::kX)->dtype));
  const Choice choice = fastest(choices_of(args, row_bytes, info),
                                "mma/" + shape_key(desc, args.matrix), args, launch);
  args.tile = choice.tile;
  args.splits = choice.splits;
  return args;
}

}  // namespace halftone::backend::cuda
