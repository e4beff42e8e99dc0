#pragma once

#include "quantized_cases.h"

namespace halftone::conformance {

// A linear, or a convolution of 1x1 over `rows` images of one pixel, whose amax is taken.
struct AmaxProduct {
  int64_t rows, in, out;
  bool geglu, residual, conv;
};

inline Case amax_case(DType x, DType y, const AmaxProduct& s) {
  const bool coded = size_of(x) == 1;
  const int64_t weight_rows = s.geglu ? 2 * s.out : s.out;
  Case c;
  c.name = "amax " + std::string(to_string(x)) + " to " + std::string(to_string(y)) + " " +
           text({s.rows, s.in, s.out}) + (s.geglu ? " geglu" : "") +
           (s.residual ? " residual" : "") + (s.conv ? " conv" : "");
  const DType out = coded ? y : DType::kF32;
  const auto rows_of = [&](int64_t columns) {
    return s.conv ? Shape{s.rows, 1, 1, columns} : Shape{s.rows, columns};
  };
  const Shape weight = s.conv ? Shape{weight_rows, 1, 1, s.in} : Shape{weight_rows, s.in};
  if (s.conv) {
    graph::Conv2d op{1, 0, 0, Activation::kNone, out};
    op.amax = true;
    c.attrs = op;
  } else {
    graph::Linear op{Activation::kNone, s.geglu, out};
    op.amax = true;
    c.attrs = op;
  }
  c.inputs = {{Role::kX, {x, rows_of(s.in)}, coded ? Fill::kCodes : Fill::kNormal},
              {Role::kWeight, {x, weight}, coded ? Fill::kCodes : Fill::kWeights}};
  const QuantizedEnd end{y, Activation::kNone, false, s.residual};
  if (coded) {
    add_end(c, end, weight_rows, s.rows, rows_of(s.out), true);
    set_bounds(c, x, end, s.geglu, s.in);
  } else {
    if (s.residual) c.inputs.push_back({Role::kResidual, {x, rows_of(s.out)}, Fill::kNormal});
    c.roundings = 1.0;
    c.depth = static_cast<double>(s.in) + 16.0;
  }
  return c;
}

// Lines of rows and parts of columns that are not full, and none at all.
inline std::vector<Case> amax_cases() {
  std::vector<Case> cases;
  for (const DType x : {DType::kI8, DType::kF8E4M3}) {
    for (const AmaxProduct& s : {AmaxProduct{66, 8, 45, false, true, false},
                                 {5, 20, 161, true, false, false},
                                 {3, 4, 81, false, false, true},
                                 {0, 8, 80, true, false, false}}) {
      cases.push_back(amax_case(x, DType::kF16, s));
    }
  }
  for (const DType t : kFloats) cases.push_back(amax_case(t, t, {66, 8, 82, true, false, false}));
  return cases;
}

// What the Hopper kernels take: one row, one tile and many, tiles of other widths than a part's.
inline std::vector<Case> large_amax_cases() {
  std::vector<Case> cases;
  for (const DType x : {DType::kI8, DType::kF8E4M3}) {
    for (const AmaxProduct& s : {AmaxProduct{64, 64, 80, false, false, false},
                                 {1, 32, 8, false, false, false},
                                 {200, 80, 328, false, true, false},
                                 {333, 48, 136, false, false, false},
                                 {130, 112, 1000, false, true, false},
                                 {520, 64, 88, true, false, false},
                                 {200, 80, 328, true, true, false},
                                 {65, 16, 1288, true, false, false},
                                 {2048, 32, 640, true, false, false},
                                 {300, 64, 240, false, true, true}}) {
      cases.push_back(amax_case(x, DType::kF16, s));
    }
  }
  return cases;
}

inline Case quantize_amax_case(DType x, DType y, const Shape& shape, bool narrow = false) {
  Case c;
  c.name = "quantize by amax " + std::string(to_string(x)) + " to " + std::string(to_string(y)) +
           " " + text(shape) + (narrow ? " narrow" : "");
  c.attrs = graph::Quantize{y, 8, graph::Granularity::kPerTensor, true, narrow};
  c.inputs = {{Role::kX, {x, shape}, Fill::kNormal},
              {Role::kAmax, graph::amax_type(shape), Fill::kAmax}};
  return c;
}

// Elements that are taken eight at a time and one by one.
inline std::vector<Case> quantize_amax_cases() {
  std::vector<Case> cases;
  for (const DType x : kFloats) {
    for (const DType y : {DType::kI8, DType::kF8E4M3}) {
      for (const Shape& shape : {Shape{130, 88}, {3, 50, 80}, {7, 77}, {1, 640}, {0, 80}}) {
        cases.push_back(quantize_amax_case(x, y, shape, y == DType::kI8 && shape[-1] == 80));
      }
    }
  }
  return cases;
}

// More parts than a block has threads, more elements than a wave of blocks takes at once.
inline std::vector<Case> large_quantize_amax_cases() {
  std::vector<Case> cases;
  for (const DType x : kFloats) {
    for (const DType y : {DType::kI8, DType::kF8E4M3}) {
      cases.push_back(quantize_amax_case(x, y, {1700, 1288}));
      cases.push_back(quantize_amax_case(x, y, {3, 1024, 2560}));
    }
  }
  return cases;
}

}  // namespace halftone::conformance
