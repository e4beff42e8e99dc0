#include "reference/call.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <numbers>

#include <fmt/format.h>

#include "halftone/error.h"

#include "base/scalar_types.h"
#include "tensor/quantized.h"

namespace halftone::reference {
namespace {

// Rounds to odd: the result rounds to any narrower type as the double itself would.
float narrow(double value) {
  auto result = static_cast<float>(value);
  const double back = result;
  if (back == value || std::isnan(value) || std::isinf(value)) return result;
  auto bits = std::bit_cast<uint32_t>(result);
  if (std::fabs(back) > std::fabs(value)) --bits;
  return std::bit_cast<float>(bits | 1U);
}

void store_one(double value, DType dtype, std::byte* dst) {
  switch (dtype) {
    case DType::kF32: {
      const auto rounded = static_cast<float>(value);
      std::memcpy(dst, &rounded, sizeof(rounded));
      return;
    }
    case DType::kF16:
    case DType::kBF16: {
      const uint16_t bits =
          dtype == DType::kF16 ? float_to_f16(narrow(value)) : float_to_bf16(narrow(value));
      std::memcpy(dst, &bits, sizeof(bits));
      return;
    }
    case DType::kF8E4M3:
      *dst = std::byte{float_to_f8e4m3(narrow(value))};
      return;
    case DType::kF8E5M2:
      *dst = std::byte{float_to_f8e5m2(narrow(value))};
      return;
    case DType::kI8:
    case DType::kU8:  // codes of movement ops
      *dst = static_cast<std::byte>(static_cast<int32_t>(value));
      return;
    default:
      throw Error(Errc::kUnsupported, "reference: no outputs of this type");
  }
}

template <class T>
std::vector<T> load_as(const TensorView& view) {
  const DType wanted = std::is_same_v<T, float> ? DType::kF32 : DType::kI32;
  const int64_t rows = view.type.shape.num_rows();
  const int64_t size = view.type.shape.row_size();
  std::vector<T> values(to_size(rows * size));
  const size_t element = size_of(view.type.dtype);
  for (int64_t row = 0; row < rows; ++row) {
    convert(view.as<const std::byte>() + to_size(row * view.row_pitch) * element, view.type.dtype,
            values.data() + row * size, wanted, to_size(size));
  }
  return values;
}

}  // namespace

const TensorView* Call::find(graph::Role role) const {
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (desc.inputs[i].role == role) return &inputs[i];
  }
  return nullptr;
}

const TensorView& Call::need(graph::Role role) const {
  const TensorView* view = find(role);
  if (view == nullptr) {
    throw Error(Errc::kInvalidArgument,
                fmt::format("{}: needs an operand '{}'", graph::name_of(desc.attrs),
                            graph::to_string(role)));
  }
  return *view;
}

std::vector<float> load(const TensorView& view) {
  if (!is_floating(view.type.dtype)) {
    throw Error(Errc::kInvalidArgument,
                fmt::format("reference: got {}, wanted a floating tensor", to_string(view.type)));
  }
  return load_as<float>(view);
}

std::vector<int32_t> load_indices(const TensorView& view) {
  if (view.type.dtype != DType::kI32) {
    throw Error(Errc::kInvalidArgument,
                fmt::format("reference: got {}, wanted i32 indices", to_string(view.type)));
  }
  return load_as<int32_t>(view);
}

void store_row(std::span<const double> values, const TensorView& view, int64_t row) {
  const size_t element = size_of(view.type.dtype);
  std::byte* dst = view.as<std::byte>() + to_size(row * view.row_pitch) * element;
  for (const double value : values) {
    store_one(value, view.type.dtype, dst);
    dst += element;
  }
}

void store(std::span<const double> values, const TensorView& view) {
  const size_t size = to_size(view.type.shape.row_size());
  for (int64_t row = 0; row < view.type.shape.num_rows(); ++row) {
    store_row(values.subspan(to_size(row) * size, size), view, row);
  }
}

int front_axis(int64_t axis, const Shape& shape) {
  return static_cast<int>(axis < 0 ? axis + static_cast<int64_t>(shape.rank()) : axis);
}

double activate(graph::Activation activation, double x) {
  using graph::Activation;
  switch (activation) {
    case Activation::kNone:
      return x;
    case Activation::kSilu:
      return x / (1.0 + std::exp(-x));
    case Activation::kGelu:
      return 0.5 * x * (1.0 + std::erf(x / std::numbers::sqrt2));
    case Activation::kGeluTanh: {
      const double inner = std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x);
      return 0.5 * x * (1.0 + std::tanh(inner));
    }
    case Activation::kQuickGelu:
      return x / (1.0 + std::exp(-1.702 * x));
  }
  throw Error(Errc::kInternal, "reference: unknown activation");
}

void multiply_add(std::span<double> acc, std::span<const float> x, const double* weight) {
  const size_t n = acc.size();
  double* sum = acc.data();
  size_t i = 0;
  for (; i + 4 <= x.size(); i += 4, weight += 4 * n) {  // four terms a pass over the sums
    const auto at = [&x, i](size_t j) { return static_cast<double>(x[i + j]); };
    const double x0 = at(0), x1 = at(1), x2 = at(2), x3 = at(3);
    for (size_t o = 0; o < n; ++o) {
      const double two = sum[o] + x0 * weight[o] + x1 * weight[n + o];
      sum[o] = two + x2 * weight[2 * n + o] + x3 * weight[3 * n + o];
    }
  }
  for (; i < x.size(); ++i, weight += n) {
    const double value = x[i];
    for (size_t o = 0; o < n; ++o) sum[o] += value * weight[o];
  }
}

Epilogue::Epilogue(const Call& call) : y_(call.output()) {
  const auto take = [&](graph::Role role, std::vector<float>& values) {
    if (const TensorView* view = call.find(role)) values = load(*view);
  };
  take(graph::Role::kBias, bias_);
  take(graph::Role::kRowAdd, row_add_);
  take(graph::Role::kResidual, residual_);
  take(graph::Role::kXScale, x_scale_);
  take(graph::Role::kWScale, w_scale_);
  take(graph::Role::kYScale, y_scale_);
}

void Epilogue::finish(std::span<double> acc, graph::Activation activation, bool geglu, int64_t n,
                      int64_t row) const {
  if (w_scale_.empty()) {
    apply(acc, activation, geglu, n, row);
  } else {
    apply_scaled(acc, activation, geglu, n, row);
  }
  const std::span<const double> result = acc.first(to_size(y_.type.shape[-1]));
  if (y_scale_.empty()) return store_row(result, y_, row);
  Quantizer{}.store_row(std::vector<float>(result.begin(), result.end()),
                        inverse_scale(y_scale_[0]), y_, row);
}

void Epilogue::apply(std::span<double> acc, graph::Activation activation, bool geglu, int64_t n,
                     int64_t row) const {
  for (size_t o = 0; o < acc.size(); ++o) {
    if (!bias_.empty()) acc[o] += static_cast<double>(bias_[o]);
    if (!row_add_.empty()) acc[o] += static_cast<double>(row_add_[to_size(n) * acc.size() + o]);
    acc[o] = activate(activation, acc[o]);
  }
  const size_t out = geglu ? acc.size() / 2 : acc.size();
  if (geglu) {
    for (size_t o = 0; o < out; ++o) acc[o] *= activate(graph::Activation::kGelu, acc[out + o]);
  }
  if (residual_.empty()) return;
  for (size_t o = 0; o < out; ++o) acc[o] += static_cast<double>(residual_[to_size(row) * out + o]);
}

void Epilogue::apply_scaled(std::span<double> acc, graph::Activation activation, bool geglu,
                            int64_t n, int64_t row) const {
  const auto activated = [](graph::Activation act, float v) {
    return act == graph::Activation::kNone ? v : static_cast<float>(activate(act, double{v}));
  };
  std::vector<float> v(acc.size());
  for (size_t o = 0; o < v.size(); ++o) {
    float scale = w_scale_[o];
    if (!x_scale_.empty()) scale *= x_scale_[x_scale_.size() == 1 ? 0 : to_size(row)];
    v[o] = static_cast<float>(acc[o]) * scale;
    if (!bias_.empty()) v[o] += bias_[o];
    if (!row_add_.empty()) v[o] += row_add_[to_size(n) * v.size() + o];
    v[o] = activated(activation, v[o]);
  }
  const size_t out = geglu ? v.size() / 2 : v.size();
  for (size_t o = 0; o < out; ++o) {
    if (geglu) v[o] *= activated(graph::Activation::kGelu, v[out + o]);
    if (!residual_.empty()) v[o] += residual_[to_size(row) * out + o];
    acc[o] = double{v[o]};
  }
}

}  // namespace halftone::reference
