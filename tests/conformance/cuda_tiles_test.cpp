// Every tile of the Hopper family with 16-bit results and every kernel for few tokens, also those
// that would not be chosen, beside double: ragged shapes, an odd number of steps, more tiles than
// the device holds at once; the same bytes in many runs. Skipped without such a GPU.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <optional>
#include <random>
#include <vector>

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include "amax.h"
#include "backend/cuda/hopper/few_tokens.h"
#include "backend/cuda/hopper/gemm.h"
#include "graph/ops/quantize.h"
#include "tensor/tensor.h"

namespace halftone::conformance {
namespace {

using backend::cuda::hopper::Element;
using backend::cuda::hopper::EpilogueArgs;
using backend::cuda::hopper::FewTokens;
using backend::cuda::hopper::FewTokensKernel;
using backend::cuda::hopper::FewTokensProblem;
using backend::cuda::hopper::Gemm;
using backend::cuda::hopper::GemmKernel;
using backend::cuda::hopper::GemmShape;

constexpr int kRuns = 100;

DType dtype_of(Element element) {
  switch (element) {
    case Element::kS8:
      return DType::kI8;
    case Element::kE4M3:
      return DType::kF8E4M3;
    case Element::kF16:
      return DType::kF16;
    case Element::kBF16:
      return DType::kBF16;
    default:
      return DType::kF32;
  }
}

// Of a GPU that runs the family; 0: there is none.
int num_sms() {
  int count = 0;
  int major = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) return 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
  cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, 0);
  return major == 9 ? count : 0;
}

class DeviceTensor {
 public:
  explicit DeviceTensor(const Tensor& t) : bytes_(t.type().num_bytes()) {
    EXPECT_EQ(cudaMalloc(&data_, bytes_), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(data_, t.data(), bytes_, cudaMemcpyHostToDevice), cudaSuccess);
  }
  ~DeviceTensor() { cudaFree(data_); }
  DeviceTensor(const DeviceTensor&) = delete;
  DeviceTensor& operator=(const DeviceTensor&) = delete;
  [[nodiscard]] void* data() const { return data_; }
  template <class T>
  [[nodiscard]] const T* as() const {
    return static_cast<const T*>(data_);
  }
  // Bytes that no result has.
  void spoil() { EXPECT_EQ(cudaMemset(data_, 0xFF, bytes_), cudaSuccess); }
  void read(Tensor& t) const {
    EXPECT_EQ(cudaMemcpy(t.data(), data_, bytes_, cudaMemcpyDeviceToHost), cudaSuccess);
  }

 private:
  void* data_ = nullptr;
  size_t bytes_;
};

struct Problem {
  const char* name;
  GemmShape shape;
  bool row_add = false;
  bool row_scales = true;  // of 8-bit operands; else one scale
  // Of a weight beside x in 16 bits, which then are whole numbers: all sums are exact.
  std::optional<Element> codes = std::nullopt;
};

Problem linear(const char* name, Element in, Element out, int64_t m, int64_t n, int64_t k,
               bool residual, bool geglu = false) {
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

Problem weight_only(Problem p, Element codes) {
  p.codes = codes;
  return p;
}

// Its amax is taken.
Problem measured(Problem p) {
  p.row_scales = false;
  p.shape.amax = true;
  return p;
}

std::vector<Problem> problems(Element in, Element out) {
  return {
      linear("ragged", in, out, 200, 328, 400, true),
      linear("one column tile, one and a half steps", in, out, 77, 80, 192 / bytes_of(in), false),
      linear("one step", in, out, 33, 40, 128 / bytes_of(in), true),
      linear("many tiles", in, out, 1500, 1280, 336, true),
      linear("gated", in, out, 200, 328, 336, false, true),
      linear("gated, residual", in, out, 200, 328, 336, true, true),
      one_scale(linear("one scale", in, out, 1500, 1280, 336, true)),
      one_scale(linear("one scale, gated", in, out, 333, 328, 400, false, true)),
      measured(linear("amax", in, out, 200, 328, 400, true)),
      measured(linear("amax, one row", in, out, 1, 80, 128, false)),
      measured(linear("amax, many tiles", in, out, 1500, 1288, 336, true)),
      measured(linear("amax, gated", in, out, 333, 328, 400, false, true)),
      measured(linear("amax, gated, residual", in, out, 1300, 1288, 336, true, true)),
      image("row add", in, out, {2, 16, 16, 48}, 328, 1, true, true),
      image("odd steps", in, out, {3, 9, 11, 80}, 88, 1, false, false),
      image("stride", in, out, {2, 31, 30, 32}, 320, 2, true, false),
      image("many tiles", in, out, {4, 24, 24, 32}, 640, 1, false, true),
      image("320 channels", in, out, {1, 12, 13, 320}, 88, 1, true, false),
      image("160 channels, stride", in, out, {2, 13, 12, 160}, 88, 2, false, false),
      image("960 channels", in, out, {1, 8, 8, 960}, 40, 1, false, true),
  };
}

Tensor random_tensor(DType dtype, int64_t count, std::mt19937& random, float size) {
  std::vector<float> values(static_cast<size_t>(count));
  std::uniform_real_distribution<float> uniform(-size, size);
  for (float& v : values) v = uniform(random);
  return Tensor::from({count}, values).to(dtype);
}

std::vector<float> floats(const Tensor& t) {
  const Tensor f = t.to(DType::kF32);
  return {f.values<float>().begin(), f.values<float>().end()};
}

double gated(double value, double gate) {
  return value * gate * 0.5 * (1.0 + std::erf(gate / std::sqrt(2.0)));
}

struct Data {
  Tensor x, weight, residual, bias, row_add, row_scale, column_scale;

  explicit Data(const Problem& p) {
    std::mt19937 random(11);
    const GemmShape& s = p.shape;
    const int64_t rows = s.conv ? s.images * s.in_h * s.in_w : s.m;
    const int64_t columns = s.geglu ? 2 * s.n : s.n;
    const DType in = dtype_of(s.in);
    const float size = s.in == Element::kS8 ? 127.0F : 1.0F;
    x = p.codes ? whole_numbers(in, rows * s.channels, random)
                : codes(in, rows * s.channels, random, size);
    weight = codes(p.codes ? dtype_of(*p.codes) : in,
                   columns * s.channels * s.kernel_h * s.kernel_w, random, size);
    residual = random_tensor(dtype_of(s.out), s.m * s.n, random, 1.0F);
    bias = random_tensor(DType::kF32, columns, random, 1.0F);
    row_add = random_tensor(DType::kF32, s.images * s.n, random, 1.0F);
    row_scale = random_tensor(DType::kF32, s.m, random, 0.01F);
    column_scale = random_tensor(DType::kF32, columns, random, 0.01F);
    if (s.amax) outweigh(s, random);
  }

  // What tiles make of rows behind the last, of biases alone, becomes larger than what is y.
  void outweigh(const GemmShape& s, std::mt19937& random) {
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

  static Tensor codes(DType dtype, int64_t count, std::mt19937& random, float size) {
    if (dtype != DType::kI8) return random_tensor(dtype, count, random, size);
    Tensor t(TensorType{dtype, {count}});
    for (int8_t& v : t.values<int8_t>()) v = static_cast<int8_t>(random() & 0xFFU);
    return t;
  }

  static Tensor whole_numbers(DType dtype, int64_t count, std::mt19937& random) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& v : values) v = static_cast<float>(random() % 7) - 3.0F;
    return Tensor::from({count}, values).to(dtype);
  }
};

// Products in double, what follows as the kernels round it.
class Expected {
 public:
  Expected(const Problem& p, const Data& d)
      : s_(p.shape), x_(values(d.x)), w_(values(d.weight)), y_(static_cast<size_t>(s_.m * s_.n)) {
    const std::vector<float> residual = floats(d.residual);
    for (int64_t m = 0; m < s_.m; ++m) {
      for (int64_t n = 0; n < s_.n; ++n) {
        float v = column(p, d, m, n);
        if (s_.geglu) {
          const double gate = column(p, d, m, s_.n + n);
          const double value = column(p, d, m, n);
          v = static_cast<float>(gated(value, gate));
        }
        const auto at = static_cast<size_t>(m * s_.n + n);
        if (p.row_add) {
          v += d.row_add.values<float>()[static_cast<size_t>(m / (s_.out_h * s_.out_w) * s_.n + n)];
        }
        if (s_.residual) v += residual[at];
        y_[at] = v;
        largest_ = std::max(largest_, std::fabs(v));
      }
    }
  }

  [[nodiscard]] const std::vector<float>& y() const { return y_; }
  [[nodiscard]] float largest() const { return largest_; }

 private:
  static std::vector<float> values(const Tensor& t) {
    if (t.type().dtype != DType::kI8) return floats(t);
    return {t.values<int8_t>().begin(), t.values<int8_t>().end()};
  }

  [[nodiscard]] double dot(const float* x, const float* w) const {
    double sum = 0;
    for (int64_t c = 0; c < s_.channels; ++c)
      sum += static_cast<double>(x[c]) * static_cast<double>(w[c]);
    return sum;
  }

  [[nodiscard]] double product(int64_t m, int64_t n) const {
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

  [[nodiscard]] size_t index(int64_t row) const { return static_cast<size_t>(row * s_.channels); }

  [[nodiscard]] float column(const Problem& p, const Data& d, int64_t m, int64_t n) const {
    auto v = static_cast<float>(product(m, n));
    if (bytes_of(s_.in) == 1) {
      v *= d.row_scale.values<float>()[static_cast<size_t>(p.row_scales ? m : 0)] *
           d.column_scale.values<float>()[static_cast<size_t>(n)];
    } else if (p.codes) {
      v *= d.column_scale.values<float>()[static_cast<size_t>(n)];
    }
    return v + d.bias.values<float>()[static_cast<size_t>(n)];
  }

  const GemmShape& s_;
  std::vector<float> x_;
  std::vector<float> w_;
  std::vector<float> y_;
  float largest_ = 0;
};

// One rounding of the result and `slack` of the largest.
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

// The largest magnitudes that a kernel left of y.
void expect_measured(const Tensor& y, const DeviceTensor& device) {
  Tensor amax(graph::amax_type(y.type().shape));
  device.read(amax);
  expect_amax(y, amax);
}

EpilogueArgs scaled(const Problem& p, const DeviceTensor& bias, const DeviceTensor& row_scale,
                    const DeviceTensor& column_scale) {
  EpilogueArgs e;
  e.bias = bias.data();
  if (bytes_of(p.shape.in) == 1) {
    e.row_scale = row_scale.as<float>();
    e.row_scale_step = p.row_scales ? 1 : 0;
    e.column_scale = column_scale.as<float>();
  }
  return e;
}

void expect_tiles(const Problem& p, int sms) {
  const GemmShape& s = p.shape;
  const Data data(p);
  const Expected expected(p, data);
  const DeviceTensor x(data.x), weight(data.weight), residual(data.residual), bias(data.bias),
      row_add(data.row_add), row_scale(data.row_scale), column_scale(data.column_scale);
  Tensor y(TensorType{dtype_of(s.out), {s.m, s.n}});
  Tensor again = y.clone();
  DeviceTensor result(y);
  DeviceTensor amax(Tensor(graph::amax_type(y.type().shape)));
  EpilogueArgs e = scaled(p, bias, row_scale, column_scale);
  if (s.amax) e.amax = static_cast<float*>(amax.data());
  if (p.row_add) {
    e.row_add = row_add.data();
    e.rows_per_image = static_cast<int>(s.out_h * s.out_w);
  }
  // 13-bit sums of e4m3.
  const float slack = s.in == Element::kE4M3 ? 2e-3F : s.geglu ? 1e-4F : 1e-5F;
  for (const uint16_t i : candidates(s, sms)) {
    const GemmKernel& kernel = backend::cuda::hopper::gemm_kernels()[i];
    SCOPED_TRACE(kernel.name());
    const Gemm gemm(
        s, kernel,
        {x.data(), weight.data(), result.data(), s.residual ? residual.data() : nullptr, true}, e,
        sms);
    result.spoil();
    amax.spoil();
    gemm.launch(nullptr);
    result.read(y);
    expect_close(y, expected, slack);
    if (s.amax) expect_measured(y, amax);
    for (int run = 0; run < kRuns; ++run) gemm.launch(nullptr, true);
    result.read(again);
    if (s.amax) expect_measured(again, amax);
    EXPECT_EQ(std::memcmp(y.data(), again.data(), y.type().num_bytes()), 0) << "another result";
  }
}

constexpr std::array kOfCodes = {
    std::pair{Element::kS8, Element::kF16}, std::pair{Element::kS8, Element::kBF16},
    std::pair{Element::kE4M3, Element::kF16}, std::pair{Element::kE4M3, Element::kBF16}};

TEST(HopperTiles, EachOfCodesEqualsDoubleAndItself) {
  const int sms = num_sms();
  if (sms == 0) GTEST_SKIP() << "no CUDA device of compute capability 9";
  for (const auto& [in, out] : kOfCodes) {
    for (const Problem& p : problems(in, out)) {
      SCOPED_TRACE(p.name);
      SCOPED_TRACE(static_cast<int>(in));
      ASSERT_EQ(unsupported_reason(p.shape), "");
      expect_tiles(p, sms);
    }
  }
}

TEST(HopperTiles, EachIn16BitsEqualsDoubleAndItself) {
  const int sms = num_sms();
  if (sms == 0) GTEST_SKIP() << "no CUDA device of compute capability 9";
  for (const Element element : {Element::kF16, Element::kBF16}) {
    for (const Problem& p : problems(element, element)) {
      SCOPED_TRACE(p.name);
      SCOPED_TRACE(static_cast<int>(element));
      if (p.shape.amax) continue;  // of products of codes only
      ASSERT_EQ(unsupported_reason(p.shape), "");
      expect_tiles(p, sms);
    }
  }
}

// The rows of a tensor of 8-bit elements, filled up with zeros.
Tensor filled_up(const Tensor& t, int64_t columns, int64_t filled) {
  const int64_t rows = t.type().shape.num_elements() / columns;
  Tensor wide(TensorType{t.type().dtype, {rows * filled}});
  std::fill_n(wide.data(), rows * filled, std::byte{0});
  for (int64_t i = 0; i < rows; ++i)
    std::copy_n(t.data() + i * columns, columns, wide.data() + i * filled);
  return wide;
}

// Tiles leave out zeros behind the channels of a tap; zeros that are channels they multiply.
void expect_zeros_change_nothing(const Problem& p, int sms) {
  const GemmShape& s = p.shape;
  const Data data(p);
  const DeviceTensor x(data.x), weight(data.weight), bias(data.bias), row_scale(data.row_scale),
      column_scale(data.column_scale);
  const EpilogueArgs e = scaled(p, bias, row_scale, column_scale);
  Tensor y(TensorType{dtype_of(s.out), {s.m, s.n}});
  Tensor all = y.clone();
  DeviceTensor result(y);
  for (const uint16_t i : candidates(s, sms)) {
    const GemmKernel& kernel = backend::cuda::hopper::gemm_kernels()[i];
    SCOPED_TRACE(kernel.name());
    result.spoil();
    Gemm(s, kernel, {x.data(), weight.data(), result.data(), nullptr, true}, e, sms)
        .launch(nullptr);
    result.read(y);
    GemmShape whole = s;  // of chunks
    whole.channels = (s.channels + kernel.row_bytes - 1) / kernel.row_bytes * kernel.row_bytes;
    whole.x_pitch = whole.channels;
    EXPECT_EQ(half_chunk(whole, kernel), -1);
    const int64_t rest = s.channels % kernel.row_bytes;  // of the last chunk
    EXPECT_EQ(half_chunk(s, kernel) >= 0, rest > 0 && 2 * rest <= kernel.row_bytes);
    const DeviceTensor wide_x(filled_up(data.x, s.channels, whole.channels)),
        wide_weight(filled_up(data.weight, s.channels, whole.channels));
    result.spoil();
    Gemm(whole, kernel, {wide_x.data(), wide_weight.data(), result.data(), nullptr, true}, e, sms)
        .launch(nullptr);
    result.read(all);
    EXPECT_EQ(std::memcmp(y.data(), all.data(), y.type().num_bytes()), 0) << "another result";
  }
}

TEST(HopperTiles, ZerosBehindTheChannelsChangeNothing) {
  const int sms = num_sms();
  if (sms == 0) GTEST_SKIP() << "no CUDA device of compute capability 9";
  for (const auto& [in, out] : kOfCodes) {
    for (const Problem& p : {image("many tiles", in, out, {2, 64, 64, 320}, 640, 1, false, false),
                             image("stride", in, out, {2, 64, 62, 320}, 640, 2, false, false),
                             image("960", in, out, {2, 32, 32, 960}, 320, 1, false, false),
                             image("160", in, out, {2, 31, 33, 160}, 320, 1, false, false),
                             image("48", in, out, {2, 31, 33, 48}, 320, 1, false, false)}) {
      SCOPED_TRACE(p.name);
      SCOPED_TRACE(static_cast<int>(in));
      expect_zeros_change_nothing(p, sms);
    }
  }
}

// Of what overflows and what is no number.
TEST(HopperTiles, AmaxIsInfiniteButNoNaN) {
  const int sms = num_sms();
  if (sms == 0) GTEST_SKIP() << "no CUDA device of compute capability 9";
  for (const auto& [in, out] : kOfCodes) {
    const Problem p = measured(linear("amax", in, out, 300, 328, 128, true));
    const Data data(p);
    Tensor odd = data.residual.clone();
    const auto bits = odd.values<uint16_t>();
    const uint16_t infinity = out == Element::kF16 ? 0x7C00 : 0x7F80;
    const uint16_t nan = out == Element::kF16 ? 0x7E00 : 0x7FC0;
    for (size_t i = 0; i < 100 * 328; i += 3) bits[i] = i % 2 == 0 ? nan : 0x8001 | nan;
    bits[210 * 328 + 5] = 0x8000 | infinity;
    const DeviceTensor x(data.x), weight(data.weight), residual(odd), bias(data.bias),
        row_scale(data.row_scale), column_scale(data.column_scale);
    Tensor y(TensorType{dtype_of(out), {p.shape.m, p.shape.n}});
    DeviceTensor result(y);
    DeviceTensor amax(Tensor(graph::amax_type(y.type().shape)));
    EpilogueArgs e = scaled(p, bias, row_scale, column_scale);
    e.amax = static_cast<float*>(amax.data());
    for (const uint16_t i : candidates(p.shape, sms)) {
      const GemmKernel& kernel = backend::cuda::hopper::gemm_kernels()[i];
      SCOPED_TRACE(kernel.name());
      amax.spoil();
      Gemm(p.shape, kernel, {x.data(), weight.data(), result.data(), residual.data(), true}, e, sms)
          .launch(nullptr);
      result.read(y);
      EXPECT_TRUE(std::isnan(floats(y)[0]));
      EXPECT_TRUE(std::isinf(floats(y)[210 * 328 + 5]));
      expect_measured(y, amax);
    }
  }
}

// Weights that the launch before may have written at first, then such that are read ahead of it.
void expect_few_tokens(const Problem& p, int sms) {
  const GemmShape& s = p.shape;
  const Data data(p);
  const Expected expected(p, data);
  const DeviceTensor x(data.x), weight(data.weight), residual(data.residual), bias(data.bias),
      scale(data.column_scale);
  Tensor y(TensorType{dtype_of(s.out), {s.m, s.n}});
  Tensor again = y.clone();
  DeviceTensor result(y);
  FewTokensProblem few;
  few.element = s.in;
  few.codes = p.codes;
  few.scale = scale.as<float>();
  few.num_sms = sms;
  few.m = static_cast<int>(s.m);
  few.n = few.y_pitch = few.residual_pitch = static_cast<int>(s.n);
  few.k = few.x_pitch = static_cast<int>(s.channels);
  few.x = x.data();
  few.weight = weight.data();
  few.y = result.data();
  few.residual = s.residual ? residual.data() : nullptr;
  few.bias = bias.data();
  for (const FewTokensKernel& kernel : backend::cuda::hopper::few_tokens_kernels()) {
    if (kernel.element != s.in || kernel.codes != p.codes || kernel.tokens < s.m) continue;
    SCOPED_TRACE(kernel.name());
    few.constant_weight = false;
    result.spoil();
    FewTokens(kernel, few).launch(nullptr);
    result.read(y);
    expect_close(y, expected, p.codes ? 1e-7F : 1e-5F);
    few.constant_weight = true;
    const FewTokens bound(kernel, few);
    result.spoil();
    for (int run = 0; run < kRuns; ++run) bound.launch(nullptr);
    result.read(again);
    EXPECT_EQ(std::memcmp(y.data(), again.data(), y.type().num_bytes()), 0) << "another result";
  }
}

TEST(HopperFewTokens, EachEqualsDoubleAndItself) {
  const int sms = num_sms();
  if (sms == 0) GTEST_SKIP() << "no CUDA device of compute capability 9";
  for (const Element element : {Element::kF16, Element::kBF16}) {
    for (const Problem& p : {linear("one token", element, element, 1, 1304, 1288, true),
                             linear("77 tokens", element, element, 77, 200, 2056, true),
                             linear("full tile", element, element, 80, 328, 456, false),
                             linear("154 tokens", element, element, 154, 328, 776, true),
                             linear("one step", element, element, 160, 8, 8, false),
                             linear("many tiles", element, element, 81, 8448, 72, true)}) {
      SCOPED_TRACE(p.name);
      SCOPED_TRACE(static_cast<int>(element));
      expect_few_tokens(p, sms);
    }
  }
}

TEST(HopperFewTokens, EachOfCodesEqualsDoubleAndItself) {
  const int sms = num_sms();
  if (sms == 0) GTEST_SKIP() << "no CUDA device of compute capability 9";
  for (const Element element : {Element::kF16, Element::kBF16}) {
    for (const Element codes : {Element::kS8, Element::kE4M3}) {
      for (const Problem& p : {linear("one token", element, element, 1, 1304, 1296, true),
                               linear("77 tokens", element, element, 77, 200, 2064, true),
                               linear("full tile", element, element, 80, 328, 464, false),
                               linear("154 tokens", element, element, 154, 328, 784, true),
                               linear("one step", element, element, 160, 8, 16, false),
                               linear("four and five parts", element, element, 77, 35848, 80, true),
                               linear("two rounds", element, element, 81, 26008, 48, false)}) {
        SCOPED_TRACE(p.name);
        SCOPED_TRACE(static_cast<int>(element));
        SCOPED_TRACE(static_cast<int>(codes));
        expect_few_tokens(weight_only(p, codes), sms);
      }
    }
  }
}

}  // namespace
}  // namespace halftone::conformance
