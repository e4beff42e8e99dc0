#include "tile_problems.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "backend/cuda/hopper/element_of.h"

namespace halftone::conformance {

using backend::cuda::hopper::Activation;
using backend::cuda::hopper::Element;
using backend::cuda::hopper::GemmShape;

namespace {

Tensor random_tensor(DType dtype, int64_t count, std::mt19937& random, float size) {
  std::vector<float> values(static_cast<size_t>(count));
  std::uniform_real_distribution<float> uniform(-size, size);
  for (float& v : values) v = uniform(random);
  return Tensor::from({count}, values).to(dtype);
}

Tensor scales(int64_t count, std::mt19937& random, float most) {
  std::vector<float> values(static_cast<size_t>(count));
  std::uniform_real_distribution<float> uniform(most / 2, most);
  for (float& v : values) v = uniform(random);
  return Tensor::from({count}, values);
}

Tensor codes_of(DType dtype, int64_t count, std::mt19937& random, float size) {
  if (dtype != DType::kI8) return random_tensor(dtype, count, random, size);
  Tensor t(TensorType{dtype, {count}});
  for (int8_t& v : t.values<int8_t>()) v = static_cast<int8_t>(random() & 0xFFU);
  return t;
}

Tensor whole_numbers(DType dtype, int64_t count, std::mt19937& random) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float& v : values) v = static_cast<float>(random() % 7) - 3.0F;
  return Tensor::from({count}, values).to(dtype);
}

double activate(double x, Activation activation) {
  switch (activation) {
    case Activation::kSilu:
      return x / (1.0 + std::exp(-x));
    case Activation::kGelu:
      return gated(1.0, x);
    case Activation::kGeluTanh:
      return 0.5 * x *
             (1.0 + std::tanh(std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
    case Activation::kQuickGelu:
      return x / (1.0 + std::exp(-1.702 * x));
    default:
      return x;
  }
}

}  // namespace

DType dtype_of(Element element) {
  for (const DType dtype : {DType::kI8, DType::kF8E4M3, DType::kF16, DType::kBF16}) {
    if (backend::cuda::hopper::element_of(dtype) == element) return dtype;
  }
  return DType::kF32;
}

int num_sms() {
  int count = 0;
  int major = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) return 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
  cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, 0);
  return major == 9 ? count : 0;
}

Problem linear(const char* name, Element in, Element out, int64_t m, int64_t n, int64_t k,
               bool residual, bool geglu) {
  Problem p{name, {}};
  GemmShape& s = p.shape;
  s.in = in;
  s.out = out;
  s.m = m;
  s.n = n;
  s.channels = k;
  s.residual = residual;
  s.geglu = geglu;
  s.x_pitch = k * bytes_of(in);
  s.y_pitch = s.residual_pitch = n * bytes_of(out);
  return p;
}

Problem image(const char* name, Element in, Element out, const std::vector<int64_t>& nhwc,
              int64_t n, int64_t stride, bool residual, bool row_add) {
  Problem p = linear(name, in, out, 0, n, nhwc[3], residual);
  GemmShape& s = p.shape;
  s.conv = true;
  s.images = nhwc[0];
  s.in_h = nhwc[1];
  s.in_w = nhwc[2];
  s.kernel_h = s.kernel_w = 3;
  s.stride = stride;
  s.pad = 1;
  s.out_h = (s.in_h - 1) / stride + 1;
  s.out_w = (s.in_w - 1) / stride + 1;
  s.m = s.images * s.out_h * s.out_w;
  p.row_add = row_add;
  return p;
}

Problem one_scale(Problem p) {
  p.row_scales = false;
  return p;
}

Problem activated(Problem p, Activation activation) {
  p.shape.activated = true;
  p.activation = activation;
  return p;
}

Problem weight_only(Problem p, Element codes) {
  p.codes = codes;
  return p;
}

std::vector<float> floats(const Tensor& t) {
  if (t.type().dtype == DType::kI8) {
    return {t.values<int8_t>().begin(), t.values<int8_t>().end()};
  }
  const Tensor f = t.to(DType::kF32);
  return {f.values<float>().begin(), f.values<float>().end()};
}

double gated(double value, double gate) {
  return value * gate * 0.5 * (1.0 + std::erf(gate / std::sqrt(2.0)));
}

Data::Data(const Problem& p) {
  std::mt19937 random(11);
  const GemmShape& s = p.shape;
  const int64_t rows = s.conv ? s.images * s.in_h * s.in_w : s.m;
  const int64_t columns = s.geglu ? 2 * s.n : s.n;
  const DType in = dtype_of(s.in);
  const float size = s.in == Element::kS8 ? 127.0F : 1.0F;
  x = p.codes ? whole_numbers(in, rows * s.channels, random)
              : codes_of(in, rows * s.channels, random, size);
  weight = codes_of(p.codes ? dtype_of(*p.codes) : in,
                    columns * s.channels * s.kernel_h * s.kernel_w, random, size);
  // Codes have none.
  residual =
      random_tensor(bytes_of(s.out) == 2 ? dtype_of(s.out) : DType::kF32, s.m * s.n, random, 1.0F);
  bias = random_tensor(DType::kF32, columns, random, 1.0F);
  row_add = random_tensor(DType::kF32, s.images * s.n, random, 1.0F);
  // Products must outweigh what a kernel may be off by.
  const float scale = s.in == Element::kS8 ? 0.01F : 1.0F;
  row_scale = scales(s.m, random, scale);
  column_scale = scales(columns, random, p.codes ? 0.01F : scale);
  if (s.amax) outweigh(s, random);
}

void Data::outweigh(const GemmShape& s, std::mt19937& random) {
  bias = random_tensor(DType::kF32, bias.type().shape.num_elements(), random, 100.0F);
  const auto b = bias.values<float>();
  std::vector<float> less(static_cast<size_t>(s.m * s.n));
  for (size_t i = 0; i < less.size(); ++i) {
    const size_t column = i % static_cast<size_t>(s.n);
    const auto value = static_cast<double>(b[column]);
    const double alone =
        s.geglu ? gated(value, static_cast<double>(b[column + static_cast<size_t>(s.n)])) : value;
    less[i] = static_cast<float>(-0.75 * alone);
  }
  residual = Tensor::from({s.m * s.n}, less).to(residual.type().dtype);
}

Expected::Expected(const Problem& p, const Data& d)
    : s_(p.shape), x_(floats(d.x)), w_(floats(d.weight)), y_(static_cast<size_t>(s_.m * s_.n)) {
  const std::vector<float> residual = floats(d.residual);
  const auto bias = d.bias.values<float>();
  for (int64_t m = 0; m < s_.m; ++m) {
    for (int64_t n = 0; n < s_.n; ++n) {
      const auto at = static_cast<size_t>(m * s_.n + n);
      float added = 0;
      if (p.row_add) {
        added =
            d.row_add.values<float>()[static_cast<size_t>(m / (s_.out_h * s_.out_w) * s_.n + n)];
      }
      if (s_.residual) added += residual[at];
      const float b = bias[static_cast<size_t>(n)];
      float value = scaled(p, d, m, n) + b;
      float alone = b;
      if (s_.geglu) {
        const float gate = bias[static_cast<size_t>(s_.n + n)];
        value = static_cast<float>(gated(value, scaled(p, d, m, s_.n + n) + gate));
        alone = static_cast<float>(gated(alone, gate));
      }
      value = static_cast<float>(activate(value, p.activation));
      alone = static_cast<float>(activate(alone, p.activation));
      y_[at] = value + added;
      largest_ = std::max(largest_, std::fabs(y_[at]));
      effect_ = std::max(effect_, std::fabs(value - alone));
    }
  }
}

double Expected::dot(const float* x, const float* w) const {
  double sum = 0;
  for (int64_t c = 0; c < s_.channels; ++c)
    sum += static_cast<double>(x[c]) * static_cast<double>(w[c]);
  return sum;
}

double Expected::product(int64_t m, int64_t n) const {
  if (!s_.conv) return dot(&x_[index(m)], &w_[index(n)]);
  const int64_t image = m / (s_.out_h * s_.out_w);
  const int64_t pixel = m % (s_.out_h * s_.out_w);
  double sum = 0;
  for (int64_t i = 0; i < s_.kernel_h; ++i) {
    for (int64_t j = 0; j < s_.kernel_w; ++j) {
      const int64_t h = pixel / s_.out_w * s_.stride - s_.pad + i;
      const int64_t w = pixel % s_.out_w * s_.stride - s_.pad + j;
      if (h < 0 || h >= s_.in_h || w < 0 || w >= s_.in_w) continue;
      sum += dot(&x_[index((image * s_.in_h + h) * s_.in_w + w)],
                 &w_[index((n * s_.kernel_h + i) * s_.kernel_w + j)]);
    }
  }
  return sum;
}

float Expected::scaled(const Problem& p, const Data& d, int64_t m, int64_t n) const {
  auto v = static_cast<float>(product(m, n));
  if (bytes_of(s_.in) == 1) {
    v *= d.row_scale.values<float>()[static_cast<size_t>(p.row_scales ? m : 0)] *
         d.column_scale.values<float>()[static_cast<size_t>(n)];
  } else if (p.codes) {
    v *= d.column_scale.values<float>()[static_cast<size_t>(n)];
  }
  return v;
}

void expect_close(const Tensor& y, const Expected& expected, float slack) {
  const float rounding = y.type().dtype == DType::kBF16 ? 0x1p-8F : 0x1p-11F;
  const std::vector<float> got = floats(y);
  size_t wrong = 0;
  float worst = 0;
  for (size_t j = 0; j < got.size(); ++j) {
    const float error = std::fabs(got[j] - expected.y()[j]);
    // Not a number is wrong too.
    if (!(error <= rounding * std::fabs(expected.y()[j]) + slack * expected.largest())) ++wrong;
    worst = std::max(worst, error);
  }
  EXPECT_EQ(wrong, 0U) << worst << " of " << expected.largest();
}

}  // namespace halftone::conformance
