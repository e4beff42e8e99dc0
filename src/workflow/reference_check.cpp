#include "workflow/reference_check.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "base/scalar_types.h"
#include "reference/reference.h"

namespace halftone::workflow {
namespace {

struct Distance {
  double relative_l2 = 0, max_abs = 0;
};

// Codes of integer types count as values.
std::vector<float> values_of(const TensorView& view) {
  const int64_t rows = view.type.shape.num_rows();
  const auto size = static_cast<size_t>(view.type.shape.row_size());
  const size_t element = size_of(view.type.dtype);
  std::vector<float> values(static_cast<size_t>(rows) * size);
  for (int64_t row = 0; row < rows; ++row) {
    const std::byte* from =
        view.as<const std::byte>() + static_cast<size_t>(row * view.row_pitch) * element;
    float* to = values.data() + static_cast<size_t>(row) * size;
    if (is_floating(view.type.dtype)) {
      convert(from, view.type.dtype, to, DType::kF32, size);
      continue;
    }
    for (size_t i = 0; i < size; ++i) {
      to[i] = view.type.dtype == DType::kI8 ? static_cast<float>(std::to_integer<int8_t>(from[i]))
                                            : static_cast<float>(std::to_integer<uint8_t>(from[i]));
    }
  }
  return values;
}

// What of an output is to be compared: of amax the largest of each line, as its parts are the
// kernel's choice (graph/ops/quantize.h); of others all of it.
std::vector<float> compared_values(const TensorView& view, graph::Role role) {
  std::vector<float> values = values_of(view);
  if (role != graph::Role::kAmax) return values;
  const auto lines = static_cast<size_t>(view.type.shape.num_rows());
  std::vector<float> largest;
  for (size_t line = 0; line < lines; ++line) {
    const auto parts =
        std::span(values).subspan(line * values.size() / lines, values.size() / lines);
    float most = 0.0F;
    for (const float part : parts) most = part <= most ? most : part;  // keeps a NaN
    largest.push_back(most);
  }
  return largest;
}

Distance distance(const TensorView& got, const TensorView& wanted, graph::Role role) {
  const std::vector<float> y = compared_values(got, role);
  const std::vector<float> r = compared_values(wanted, role);
  double error = 0;
  double norm = 0;
  Distance result;
  for (size_t i = 0; i < r.size(); ++i) {
    const double reference = r[i];
    if (std::isnan(reference) && std::isnan(y[i])) continue;
    const double off = std::fabs(static_cast<double>(y[i]) - reference);
    if (off == 0 || y[i] == r[i]) {
      norm += reference * reference;
      continue;
    }
    if (!std::isfinite(off)) {
      constexpr double kInfinity = std::numeric_limits<double>::infinity();
      return {kInfinity, kInfinity};
    }
    error += off * off;
    norm += reference * reference;
    result.max_abs = std::max(result.max_abs, off);
  }
  if (error > 0) {
    result.relative_l2 =
        norm > 0 ? std::sqrt(error / norm) : std::numeric_limits<double>::infinity();
  }
  return result;
}

}  // namespace

double relative_l2_limit(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return 5e-3;
    case DType::kBF16:
    case DType::kI8:
    case DType::kU8:
      return 2e-2;
    case DType::kF8E4M3:
    case DType::kF8E5M2:
      return 5e-2;
    default:
      return 1e-4;
  }
}

void ReferenceCheck::add(const std::string& component, const runtime::ObservedCall& observed) {
  std::vector<Tensor> results;
  std::vector<TensorView> views;
  for (const TensorView& output : observed.outputs) {
    results.emplace_back(output.type);
    views.push_back(results.back().view());
  }
  reference::run_op(observed.desc, observed.inputs, views);
  NodeCheck check{.component = component,
                  .node = observed.call.name,
                  .op = std::string(graph::name_of(observed.call.attrs)),
                  .kernel = observed.call.kernel};
  // What describes the first result follows from it as it was rounded.
  const bool derived = graph::makes_statistics(observed.desc);
  for (size_t i = 0; i < views.size(); ++i) {
    const double limit = relative_l2_limit(views[derived ? 0 : i].type.dtype);
    const Distance d = distance(observed.outputs[i], views[i], observed.desc.outputs[i].role);
    if (i > 0 && d.relative_l2 / limit <= check.relative_l2 / check.limit) continue;
    check.relative_l2 = d.relative_l2;
    check.max_abs = d.max_abs;
    check.limit = limit;
  }
  check.ok = check.relative_l2 <= check.limit;
  checks_.push_back(std::move(check));
}

std::vector<NodeCheck> ReferenceCheck::worst_first() const {
  std::vector<NodeCheck> sorted = checks_;
  std::ranges::stable_sort(sorted, [](const NodeCheck& a, const NodeCheck& b) {
    return a.relative_l2 / a.limit > b.relative_l2 / b.limit;
  });
  return sorted;
}

}  // namespace halftone::workflow
