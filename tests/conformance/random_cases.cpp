#include "random_cases.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <random>
#include <utility>

#include "attention_cases.h"
#include "tensor/step_coefficients.h"

namespace halftone::conformance {
namespace {

using graph::Granularity;

// Choices of one case. std's distributions differ between libraries; remainders do not, and that
// they favour small values by 2^-50 is no matter.
class Draw {
 public:
  Draw(Family family, uint64_t stream, uint64_t seed) {
    const auto low = [](uint64_t v) { return static_cast<uint32_t>(v); };
    std::seed_seq sequence{low(seed), low(seed >> 32U), low(stream), static_cast<uint32_t>(family)};
    engine_.seed(sequence);
  }
  int64_t below(int64_t n) { return static_cast<int64_t>(engine_() % static_cast<uint64_t>(n)); }
  int64_t between(int64_t first, int64_t last) { return first + below(last - first + 1); }
  bool one_in(int64_t n) { return below(n) == 0; }
  bool coin() { return one_in(2); }
  template <class T>
  T of(std::initializer_list<T> values) {
    return values.begin()[below(static_cast<int64_t>(values.size()))];
  }
  template <class T>
  void shuffle(std::vector<T>& values) {
    for (size_t i = values.size(); i > 1; --i) {
      std::swap(values[i - 1], values[static_cast<size_t>(below(static_cast<int64_t>(i)))]);
    }
  }

  DType floating() { return of({DType::kF32, DType::kBF16, DType::kF16}); }
  DType code() { return of({DType::kI8, DType::kF8E4M3}); }
  Activation activation() { return static_cast<Activation>(below(5)); }
  // Beside, on and between the widths of vectors, tiles and panels.
  int64_t channels() {
    return of<int64_t>({1,   2,   3,   4,   5,   7,   8,   9,   15,  16, 17, 24,
                        31,  32,  33,  40,  48,  63,  64,  65,  72,  77, 80, 96,
                        100, 127, 128, 129, 160, 192, 255, 256, 257, 320});
  }
  int64_t extent() {
    return of<int64_t>({1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 16, 17, 18, 20, 33});
  }
  // Of at most `most` elements, which keeps a case within milliseconds; one in 25 has none.
  Shape shape(int64_t rank, int64_t most = 40000) {
    for (;;) {
      std::vector<int64_t> dims;
      for (int64_t i = 1; i < rank; ++i) dims.push_back(extent());
      dims.push_back(channels());
      if (one_in(25)) dims[static_cast<size_t>(below(rank))] = 0;
      Shape result(std::move(dims));
      if (result.num_elements() <= most) return result;
    }
  }

 private:
  std::mt19937_64 engine_;
};

void add(Case& c, Role role, DType type, Shape shape, Fill fill) {
  c.inputs.push_back({role, {type, std::move(shape)}, fill});
}

// A static scale of codes that keeps most of normal values.
void add_y_scale(Case& c, DType out, Shape shape) {
  add(c, Role::kYScale, DType::kF32, std::move(shape),
      out == DType::kI8 ? Fill::kWideScales : Fill::kUnitScales);
}

// What a linear or convolution multiplies.
struct Products {
  DType x, weight;
  int64_t bits = 8;  // of the weight
  [[nodiscard]] bool codes() const { return size_of(x) == 1; }
  [[nodiscard]] bool plain() const { return size_of(weight) != 1; }
  // Channels that fill bytes.
  [[nodiscard]] int64_t whole(int64_t channels) const {
    const int64_t per_byte = plain() ? 1 : 8 / bits;
    return (channels + per_byte - 1) / per_byte * per_byte;
  }
};

Products draw_products(Draw& draw) {
  const DType t = draw.floating();
  const auto packed = [&](DType x) { return Products{x, DType::kU8, draw.of<int64_t>({4, 2})}; };
  switch (draw.below(8)) {
    case 0:
    case 1:
      return {t, t};
    case 2:
      return {t, draw.code()};
    case 3:
      return packed(t);
    case 4:
    case 5:
      return {DType::kI8, DType::kI8};
    case 6:
      return packed(DType::kI8);
    default:
      return {DType::kF8E4M3, DType::kF8E4M3};
  }
}

// x and weight with their scales; `row` is the weight's row of bits, `scales` those of x.
void add_products(Case& c, const Products& p, Shape x, Shape weight, int64_t scales, Fill fill) {
  const int64_t rows = weight[0];
  weight[-1] = p.plain() ? weight[-1] : weight[-1] * p.bits / 8;
  add(c, Role::kX, p.x, std::move(x), p.codes() ? Fill::kCodes : fill);
  add(c, Role::kWeight, p.weight, std::move(weight), p.plain() ? Fill::kWeights : Fill::kCodes);
  if (p.codes()) add(c, Role::kXScale, DType::kF32, {scales}, Fill::kScales);
  if (!p.plain()) add(c, Role::kWScale, DType::kF32, {rows}, Fill::kScales);
}

// What follows the products. Types around them differ from the result's in one case of three:
// kernels read those that they are written for and must refuse the others.
template <class Op>
void add_end(Draw& draw, Case& c, const Products& p, int64_t weight_rows, const Shape& y, Op& op,
             bool may_code, bool may_add) {
  const DType out = p.codes() ? draw.floating() : p.x;
  if (p.codes()) op.out = out;
  const DType around = draw.one_in(3) ? draw.floating() : out;
  const auto type = [&] { return draw.one_in(6) ? draw.floating() : around; };
  if (!draw.one_in(4)) add(c, Role::kBias, around, {weight_rows}, Fill::kNormal);
  if (may_add && draw.one_in(3)) {
    add(c, Role::kRowAdd, type(), {y[0], weight_rows}, Fill::kNormal);
  }
  if (may_add && draw.coin()) add(c, Role::kResidual, type(), y, Fill::kNormal);
  if (may_code && draw.one_in(4)) {
    op.out = draw.code();
    add_y_scale(c, op.out, {1});
  }
}

// As the tables have it: sums of integer products are exact until an activation.
void bound_products(Case& c, const Products& p, bool is_linear, int64_t terms) {
  if (p.x == DType::kI8 && is_linear) return;
  c.roundings = 1.0;
  c.depth = static_cast<double>(terms) + 64.0;
  c.steps = 1;
}

// Rows of 1 to 4 axes, sums of up to 1088 terms, each with or without what may follow. Results that
// are measured have whole pieces of rows and whole groups.
Case draw_linear(Draw& draw) {
  constexpr int64_t kMostProducts = 2000000;
  Case c;
  graph::Linear op;
  const Products p = draw_products(draw);
  const bool by_group = draw.one_in(6);
  const bool by_row = !by_group && p.plain() && draw.one_in(6);
  const bool normalizes = !by_group && p.plain() && draw.one_in(6);
  op.amax = !by_group && !by_row && !normalizes && draw.one_in(4);
  int64_t in = draw.one_in(5) ? draw.of<int64_t>({400, 512, 601, 640, 1088}) : draw.channels();
  if (normalizes) in = std::max<int64_t>(in, 8);  // a row of few has hardly a deviation
  in = p.whole(in);
  op.geglu = draw.one_in(3);
  if (!op.geglu) op.activation = draw.coin() ? Activation::kNone : draw.activation();
  int64_t out = draw.one_in(6) ? draw.of<int64_t>({400, 513, 640}) : draw.channels();
  std::vector<int64_t> dims;
  if (by_group) {
    op.statistics_groups = draw.of<int64_t>({1, 2, 4, 8, 16, 32});
    out = op.statistics_groups * draw.of<int64_t>({1, 2, 3, 4, 10});
    dims = {draw.between(1, 2), draw.of<int64_t>({64, 128, 192})};
  } else {
    for (int64_t i = draw.below(4); i > 0; --i) dims.push_back(draw.extent());
    if (!dims.empty() && draw.one_in(6)) dims[0] = draw.of<int64_t>({0, 150, 300});
  }
  dims.push_back(in);
  const Shape x(dims);
  dims.back() = out;
  const Shape y(dims);
  const int64_t weight_rows = op.geglu ? 2 * out : out;
  if (x.num_elements() * weight_rows > kMostProducts) return draw_linear(draw);
  op.row_statistics = by_row;
  const bool one_scale = op.amax ? !draw.one_in(6) : draw.coin();
  add_products(c, p, x, {weight_rows, in}, one_scale ? 1 : x.num_rows(), Fill::kNormal);
  if (normalizes) {
    op.eps = 1e-5;
    add(c, Role::kRowStatistics, DType::kF32, graph::row_statistics_type(x).shape,
        Fill::kRowStatistics);
    add(c, Role::kColumnSum, DType::kF32, {weight_rows}, Fill::kRowSums);
  }
  const bool may_code = !by_group && !by_row && !normalizes && !op.amax;
  add_end(draw, c, p, weight_rows, y, op, may_code, !normalizes);
  bound_products(c, p, op.activation == Activation::kNone && !op.geglu, in);
  c.attrs = op;
  return c;
}

// Windows of 1 to 4 with every stride and one-sided padding, images smaller than the window and
// wider than tiles; interleaved ones. Measured results come of windows that keep the
// image's size, in lines of whole pieces.
Case draw_conv2d(Draw& draw) {
  constexpr int64_t kMostProducts = 2000000;
  Case c;
  graph::Conv2d op;
  const Products p = draw_products(draw);
  const bool measured = draw.one_in(6);
  const int64_t in = p.whole(draw.channels());
  int64_t out = draw.channels();
  int64_t kh = draw.between(1, 4), kw = draw.one_in(4) ? draw.between(1, 4) : kh;
  int64_t height = draw.extent() + (draw.one_in(4) ? 16 : 0);
  int64_t width = draw.extent();
  if (draw.one_in(3)) width += draw.of<int64_t>({15, 16, 17, 31, 32, 33, 48, 63, 64, 96, 128});
  op.stride = draw.between(1, 3);
  const int64_t pads = std::min<int64_t>({3, kh, kw});  // padding never fills a window
  op.pad_begin = draw.below(pads);
  op.pad_end = draw.coin() ? op.pad_begin : draw.below(pads);
  op.activation = draw.coin() ? Activation::kNone : draw.activation();
  if (measured) {
    op.statistics_groups = draw.of<int64_t>({1, 2, 4, 8, 16, 32});
    out = op.statistics_groups * draw.of<int64_t>({1, 2, 3, 4});
    op.stride = 1;
    kh = kw = draw.of<int64_t>({1, 3});
    op.pad_begin = op.pad_end = kh / 2;
    height = draw.of<int64_t>({2, 4});
    width = draw.of<int64_t>({32, 64});
  } else if (draw.one_in(5)) {
    op.interleaved = true;
    out = draw.coin() ? draw.of<int64_t>({128, 256}) : (out + 3) / 4 * 4;
  } else {
    op.amax = draw.one_in(6);
  }
  const int64_t n = draw.one_in(25) ? 0 : draw.between(1, 3);
  const int64_t rim = op.pad_begin + op.pad_end;
  if (height + rim < kh || width + rim < kw) return draw_conv2d(draw);
  const Shape y{n, (height + rim - kh) / op.stride + 1, (width + rim - kw) / op.stride + 1, out};
  if (y.num_elements() * in * kh * kw > kMostProducts) return draw_conv2d(draw);
  add_products(c, p, {n, height, width, in}, {out, kh, kw, in}, 1, Fill::kNormal);
  add_end(draw, c, p, out, y, op, !measured && !op.amax, !op.interleaved);
  bound_products(c, p, op.activation == Activation::kNone, kh * kw * in);
  c.attrs = op;
  return c;
}

// Queries that the attention computes, of values or codes.
Case draw_projected_attention(Draw& draw) {
  constexpr int64_t kMostProducts = 4000000;
  const DType k = draw.floating();
  const DType x = draw.coin() ? k : draw.code();
  const DType out = draw.one_in(3) ? draw.code() : k;
  const bool row_scales = size_of(x) == 1 && draw.coin();
  const ProjectedSize size{draw.between(1, 3),
                           draw.extent() + (draw.coin() ? 0 : draw.of<int64_t>({47, 60, 180})),
                           draw.between(1, 84), draw.between(1, 4),
                           draw.one_in(4) ? draw.channels() : 16 * draw.between(1, 24)};
  if (size.batch * size.queries * size.heads * 64 * size.in > kMostProducts) {
    return draw_projected_attention(draw);
  }
  Case c = projected_attention({x, k, out, row_scales}, size);
  // Few terms of codes are less even than many, and so are the scores.
  c.depth += std::ldexp(1.0, 23 - 6);
  c.steps = std::max(c.steps, 1);
  return c;
}

// Heads of 1 to 160 channels, ragged queries and keys, masks, codes of each part for itself.
Case draw_attention(Draw& draw) {
  constexpr int64_t kMostProducts = 1000000;
  if (draw.one_in(5)) return draw_projected_attention(draw);
  Case c;
  const int64_t heads = draw.between(1, 5), batch = draw.between(1, 3);
  const auto width =
      draw.of<int64_t>({1, 3, 4, 7, 8, 16, 20, 32, 40, 48, 64, 72, 80, 96, 128, 160});
  const auto tokens = [&] {
    return draw.extent() + (draw.one_in(3) ? draw.of<int64_t>({32, 64, 100, 130, 190}) : 0);
  };
  int64_t queries = draw.one_in(30) ? 0 : tokens(), keys = tokens();
  const bool causal = draw.one_in(3);
  if (causal) keys = queries;
  if (queries * keys * width * heads * batch > kMostProducts) return draw_attention(draw);
  const double share = draw.coin() ? 1.0 : 0.3 + 0.01 * static_cast<double>(draw.below(100));
  graph::Attention op{heads, share / std::sqrt(static_cast<double>(width)), causal};
  const DType t = draw.floating();
  const bool codes = draw.one_in(3);
  const DType q = codes ? draw.code() : t;
  const DType k = codes || !draw.one_in(8) ? q : draw.floating();
  const DType v = draw.one_in(3) ? DType::kF8E4M3 : draw.one_in(4) ? draw.floating() : t;
  const auto part = [&](Role role, Role scale, DType type, int64_t count, bool by_part) {
    const bool coded = size_of(type) == 1;
    add(c, role, type, {batch, count, heads * width}, coded ? Fill::kCodes : Fill::kNormal);
    if (!coded) return;
    add(c, scale, DType::kF32, {by_part ? batch * count * heads : 1}, Fill::kScales);
  };
  part(Role::kQ, Role::kQScale, q, queries, draw.coin());
  part(Role::kK, Role::kKScale, k, keys, draw.coin());
  part(Role::kV, Role::kVScale, v, keys, false);
  if (codes) op.out = draw.floating();
  if (draw.one_in(3)) op.probabilities = DType::kF8E4M3;
  if (draw.one_in(4)) {
    op.out = draw.code();
    add_y_scale(c, op.out, {1});
  }
  c.attrs = op;
  // As the tables have it, with weights that exceed their mean by e^6: scores of narrow heads and
  // of codes are less even. Weights that are rounded to 16 bits or to codes move the sum by 2^-6.
  c.roundings = 1.0;
  c.depth = 400.0 * (std::pow(static_cast<double>(width), 1.5) + static_cast<double>(keys) + 16.0);
  c.depth += std::ldexp(1.0, 23 - 6);
  c.steps = 1;
  if (op.probabilities == DType::kF8E4M3) c.rare = 0.05;
  return c;
}

// x as two parts, and what a group norm hands on of it.
void join(Draw& draw, graph::GroupNorm& op, Case& c) {
  Shape& first = c.inputs.front().type.shape;
  const int64_t channels = first[-1];
  if (channels > 1 && draw.coin()) {
    first[-1] = draw.between(1, channels - 1);
    Input second = c.inputs.front();
    second.type.shape[-1] = channels - first[-1];
    c.inputs.insert(c.inputs.begin() + 1, second);
  }
  op.joins = draw.coin();
  if (!op.joins || op.out == DType::kF32 || op.dynamic || draw.coin()) return;
  op.joined = op.out;
  c.inputs.push_back({Role::kXScale, {DType::kF32, {1}}, Fill::kUnitScales});
}

// Groups of 1 to 1280 elements a row, values far from zero, parameters of another type; static and
// dynamic codes; statistics that were measured before; joined parts.
Case draw_norm(Draw& draw) {
  Case c;
  const DType t = draw.floating();
  const DType gamma = draw.one_in(3) ? draw.floating() : t;
  const DType beta = draw.one_in(3) ? draw.floating() : gamma;
  const bool by_group = draw.coin();
  const bool measured = by_group && draw.one_in(4);
  Shape x = draw.shape((by_group ? 2 : 1) + draw.below(3));
  DType out = DType::kF32;
  Granularity granularity = Granularity::kPerTensor;
  bool dynamic = false;
  if (draw.coin()) {
    out = draw.code();
    dynamic = draw.coin();
    if (draw.coin()) granularity = Granularity::kPerToken;
  }
  const double eps = draw.coin() ? 1e-5 : 1e-3;
  if (by_group) {
    const auto groups = draw.of<int64_t>({1, 2, 3, 4, 8, 16, 32});
    if (measured) x = {draw.between(1, 2), draw.of<int64_t>({64, 128, 192}), 1};
    x[-1] = groups * draw.of<int64_t>({1, 2, 3, 4, 5, 8, 10, 20, 40});
    // A token of a few channels may be all but zero, and its scale then a difference of nearly
    // equal numbers.
    if (dynamic && granularity == Granularity::kPerToken && x[-1] < 16) return draw_norm(draw);
    if (x.num_elements() > 60000) return draw_norm(draw);
    c.attrs = graph::GroupNorm{groups, eps, draw.activation(), out, granularity, dynamic};
    if (measured) {
      add(c, Role::kGroupStatistics, DType::kF32,
          graph::group_statistics_type("case", {t, x}, groups).shape, Fill::kGroupStatistics);
    }
  } else {
    c.attrs = graph::LayerNorm{eps, out, granularity, dynamic};
  }
  const Fill fill = draw.one_in(3) ? Fill::kFar : Fill::kNormal;
  c.inputs.insert(c.inputs.begin(), {Role::kX, {t, x}, fill});
  if (auto* op = std::get_if<graph::GroupNorm>(&c.attrs); op && !measured && draw.one_in(3)) {
    join(draw, *op, c);
  }
  add(c, Role::kGamma, gamma, {x[-1]}, Fill::kNormal);
  add(c, Role::kBeta, beta, {x[-1]}, Fill::kNormal);
  if (size_of(out) == 1 && !dynamic) add_y_scale(c, out, scale_shape(granularity, x));
  // A difference from the mean has the error of the values, and is multiplied by at most
  // 1 / sqrt(eps).
  c.roundings = 1.0;
  c.depth = 64.0 + (fill == Fill::kFar ? 64.0 : 4.0) / std::sqrt(eps);
  c.steps = 1;
  return c;
}

// Every type, width, granularity, zero point and smoothing; static and dynamic scales. All of it is
// single float operations: equal.
Case draw_quantize(Draw& draw) {
  Case c;
  const auto granularity = static_cast<Granularity>(draw.below(4));
  const bool may_zero = granularity == Granularity::kPerTensor && draw.coin();
  const auto [dtype, bits] = draw.of<std::pair<DType, int64_t>>({{DType::kI8, 8},
                                                                 {DType::kI8, 4},
                                                                 {DType::kI8, 2},
                                                                 {DType::kU8, 4},
                                                                 {DType::kU8, 2},
                                                                 {DType::kF8E4M3, 8}});
  Shape x = draw.shape(draw.between(1, 4));
  if (draw.one_in(5)) {
    const int64_t axis = draw.coin() ? 0 : -1;
    c.attrs = graph::Scale{axis};
    add(c, Role::kX, draw.floating(), x, Fill::kNormal);
    add(c, Role::kGamma, draw.coin() ? DType::kF32 : draw.floating(), {x[static_cast<int>(axis)]},
        Fill::kNormal);
    return c;
  }
  if (dtype == DType::kU8) x[-1] = (x[-1] + 3) / 4 * 4;
  if (draw.coin()) {
    const int64_t stored_bits = dtype == DType::kU8 ? bits : 8;
    Shape stored = x;
    stored[-1] = x[-1] * stored_bits / 8;
    c.attrs = graph::Dequantize{draw.floating(), stored_bits, granularity};
    add(c, Role::kX, dtype, stored, Fill::kCodes);
    add(c, Role::kXScale, DType::kF32, scale_shape(granularity, x), Fill::kScales);
  } else {
    const graph::Quantize op{dtype, bits, granularity, draw.coin(), draw.coin()};
    c.attrs = op;
    add(c, Role::kX, draw.floating(), x, Fill::kNormal);
    const bool by_amax = op.dynamic && granularity == Granularity::kPerTensor && draw.coin();
    if (by_amax) {
      add(c, Role::kAmax, DType::kF32, graph::amax_type(x).shape, Fill::kAmax);
    } else if (draw.one_in(3)) {
      add(c, Role::kGamma, draw.floating(), {x[-1]}, Fill::kNormal);
    }
    if (op.dynamic) return c;
    add(c, Role::kXScale, DType::kF32, scale_shape(granularity, x),
        draw.coin() ? Fill::kScales : Fill::kWideScales);
  }
  if (may_zero && dtype != DType::kF8E4M3) {
    add(c, Role::kXZero, DType::kI32, {1}, Fill::kIndices);
  }
  return c;
}

Case draw_reduce(Draw& draw) {
  Case c;
  const int64_t kind = draw.below(4);
  const Shape x = draw.shape(kind == 0 ? 3 : draw.between(1, 4));
  add(c, Role::kX, draw.floating(), x, Fill::kNormal);
  if (kind == 0) {
    c.attrs = graph::Center{};
    c.roundings = 1.0;
    c.depth = static_cast<double>(x[1]) + 4.0;
  } else if (kind == 1) {
    c.attrs = graph::Histogram{};
  } else {
    const graph::Reduce op{static_cast<graph::Reduction>(draw.below(4)),
                           static_cast<Granularity>(draw.below(5))};
    c.attrs = op;
    // Extremes are exact, sums have an order of their own.
    if (op.reduction == graph::Reduction::kSumSquares) {
      c.depth = 2.0 * static_cast<double>(x.num_elements());
    }
  }
  return c;
}

Case draw_elementwise(Draw& draw) {
  Case c;
  const int64_t kind = draw.below(6);
  const bool table = kind == 2 && draw.one_in(3);
  const Shape x = draw.shape(table ? 3 : draw.between(1, 4));
  add(c, Role::kX, kind == 5 ? DType::kF32 : draw.floating(), x, Fill::kNormal);
  const DType t = c.inputs[0].type.dtype;
  const auto coefficient = [&] { return 0.05 * static_cast<double>(draw.between(-40, 60)); };
  c.roundings = 1.0;
  c.depth = 8.0;  // units of exp, erf and division
  switch (kind) {
    case 0:
      c.attrs = graph::Unary{draw.activation()};
      break;
    case 1: {
      const double scale = coefficient(), shift = coefficient();
      c.attrs = draw.coin() ? graph::Affine{scale, shift} : graph::Affine{scale, shift, -1.0, 1.0};
      break;
    }
    case 2: {
      c.attrs = graph::Add{table};
      const bool by_row = x.rank() >= 2 && draw.coin();
      const Shape other = table ? Shape{x[1], x[2]} : by_row ? Shape{x[0], x[-1]} : x;
      add(c, Role::kX, draw.one_in(4) ? draw.floating() : t, other, Fill::kNormal);
      break;
    }
    case 3:
      c.attrs = graph::Geglu{};
      c.inputs[0].type.shape[-1] *= 2;
      break;
    case 4:
      c.attrs = graph::Cast{draw.floating()};
      c.roundings = c.depth = 0.0;
      break;
    default:
      c.attrs = graph::ToBytes{};
      break;
  }
  return c;
}

// Axes counted from either end, parts without elements, every order of axes.
Case draw_rearrangement(Draw& draw, DType t, Fill fill) {
  Case c;
  const int64_t rank = draw.between(1, 4);
  const Shape x = draw.shape(rank);
  const int64_t axis = draw.between(-rank, rank - 1);
  std::vector<int64_t> order = x.dims();
  switch (draw.below(4)) {
    case 0:
      c.attrs = graph::Concat{axis};
      for (int64_t i = draw.between(1, 4); i > 0; --i) {
        Shape part = x;
        part[static_cast<int>(axis)] = draw.below(9);
        add(c, Role::kX, t, part, fill);
      }
      return c;
    case 1: {
      const int64_t begin = draw.between(0, x[static_cast<int>(axis)]);
      c.attrs = graph::Slice{axis, begin, draw.between(begin, x[static_cast<int>(axis)])};
      break;
    }
    case 2:
      draw.shuffle(order);
      c.attrs = graph::Reshape{draw.coin() ? order : std::vector<int64_t>{x.num_elements()}};
      break;
    default:
      for (int64_t i = 0; i < rank; ++i) order[static_cast<size_t>(i)] = i;
      draw.shuffle(order);
      c.attrs = graph::Transpose{order};
      break;
  }
  add(c, Role::kX, t, x, fill);
  return c;
}

// Nothing is computed but the subpixel weight, which is summed in double: equal. Codes are moved
// too, where the reference can.
Case draw_movement(Draw& draw) {
  const bool codes = draw.one_in(6);
  const DType t = codes ? draw.code() : draw.floating();
  const Fill fill = codes ? Fill::kCodes : Fill::kNormal;
  const int64_t kind = draw.below(10);
  if (kind < 4) return draw_rearrangement(draw, t, fill);
  Case c;
  constexpr int64_t kIndices = 5;  // what Fill::kIndices stays below
  Shape image = draw.shape(4, 10000);
  switch (kind) {
    case 4:
      c.attrs = graph::Upsample{draw.between(1, 20), draw.between(1, 20)};
      add(c, Role::kX, t, image, fill);
      break;
    case 5: {
      const int64_t size = draw.between(1, 4);
      c.attrs = graph::MaxPool{size, draw.between(1, 4)};
      for (const int axis : {1, 2}) image[axis] = std::max(image[axis], size);
      add(c, Role::kX, draw.floating(), image, Fill::kNormal);
      break;
    }
    case 6:
      c.attrs = graph::SubpixelMerge{};
      for (const int axis : {1, 2}) image[axis] = std::max<int64_t>(image[axis], 2);
      image[-1] = (image[-1] + 3) / 4 * 4;
      add(c, Role::kX, t, image, fill);
      break;
    case 7:
      c.attrs = graph::SubpixelWeight{};
      add(c, Role::kX, DType::kF32, {draw.extent(), 3, 3, draw.channels()}, Fill::kNormal);
      break;
    case 8:
      c.attrs = graph::Embedding{};
      add(c, Role::kIndex, DType::kI32, draw.shape(draw.between(1, 3), 500), Fill::kIndices);
      add(c, Role::kWeight, draw.floating(), {kIndices + draw.below(9), draw.channels()},
          Fill::kNormal);
      break;
    default: {
      const Shape x{draw.extent(), kIndices + draw.below(9), draw.channels()};
      c.attrs = graph::SelectRow{};
      add(c, Role::kX, draw.floating(), x, Fill::kNormal);
      add(c, Role::kIndex, DType::kI32, {x[0]}, Fill::kIndices);
      break;
    }
  }
  return c;
}

// Bounds of the tables: one product; one product and two sums; seven products and their sums.
Case draw_denoise(Draw& draw) {
  Case c;
  const Shape x{draw.one_in(25) ? 0 : draw.between(1, 4), draw.extent(), draw.extent(),
                draw.of<int64_t>({1, 3, 4, 16})};
  const Shape state{kMaxState, x[0], x[1], x[2], x[3]};
  const auto f32 = [&](Role role, const Shape& shape) {
    add(c, role, DType::kF32, shape, Fill::kNormal);
  };
  c.roundings = 1.0;
  switch (draw.below(3)) {
    case 0:
      c.attrs = graph::ScaleInput{draw.between(1, 3)};
      f32(Role::kState, state);
      break;
    case 1: {
      Shape both = draw.shape(draw.between(1, 4));
      both[0] *= 2;
      c.attrs = graph::Guidance{};
      c.depth = 3.0;
      f32(Role::kX, both);
      break;
    }
    default:
      c.attrs = graph::LinearUpdate{};
      c.depth = 8.0;
      f32(Role::kState, state);
      f32(Role::kX, x);
      f32(Role::kNoise, x);
      break;
  }
  f32(Role::kCoefficients, {kNumStepCoefficients});
  return c;
}

struct Generator {
  std::string_view name;
  Case (*draw)(Draw&);
};

const Generator& generator(Family family) {
  static constexpr std::array<Generator, std::size(kFamilies)> kGenerators{
      {{"linear", draw_linear},
       {"conv2d", draw_conv2d},
       {"attention", draw_attention},
       {"norm", draw_norm},
       {"quantize", draw_quantize},
       {"reduce", draw_reduce},
       {"elementwise", draw_elementwise},
       {"movement", draw_movement},
       {"denoise", draw_denoise}}};
  return kGenerators[static_cast<size_t>(family)];
}

}  // namespace

std::string_view to_string(Family family) { return generator(family).name; }

Case random_case(Family family, uint64_t stream, uint64_t seed) {
  Draw draw(family, stream, seed);
  Case c = generator(family).draw(draw);
  c.name = "seed " + std::to_string(seed) + ": " + print_attrs(c.attrs);
  for (const Input& input : c.inputs) {
    c.name += " " + std::string(to_string(input.role)) + ":" + to_string(input.type);
  }
  return c;
}

}  // namespace halftone::conformance
