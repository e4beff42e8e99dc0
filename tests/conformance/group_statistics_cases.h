#pragma once

#include "quantized_cases.h"

namespace halftone::conformance {

// A linear (kernel 0: height * width rows an image) or convolution whose result is measured.
struct MeasuredProduct {
  int64_t batch, height, width, in, out, kernel, groups;
  bool more;  // a residual, and a row added where it is a convolution
};

inline Case measured_case(DType x, DType y, const MeasuredProduct& s) {
  const bool coded = size_of(x) == 1;
  const bool is_conv = s.kernel > 0;
  const int64_t pad = s.kernel / 2;
  const int64_t rows = s.height * s.width;
  Case c;
  c.name = "measured " + std::string(to_string(x)) + " " +
           text({s.batch, s.height, s.width, s.in, s.out, s.kernel}) + " in " +
           std::to_string(s.groups) + (s.more ? " with more" : "");
  const Shape input =
      is_conv ? Shape{s.batch, s.height, s.width, s.in} : Shape{s.batch, rows, s.in};
  const Shape weight = is_conv ? Shape{s.out, s.kernel, s.kernel, s.in} : Shape{s.out, s.in};
  Shape output = input;
  output[-1] = s.out;
  const DType out = coded ? y : DType::kF32;
  if (is_conv) {
    graph::Conv2d op{1, pad, pad, Activation::kNone, out};
    op.statistics_groups = s.groups;
    c.attrs = op;
  } else {
    graph::Linear op{Activation::kNone, false, out};
    op.statistics_groups = s.groups;
    c.attrs = op;
  }
  c.inputs = {{Role::kX, {x, input}, coded ? Fill::kCodes : Fill::kNormal},
              {Role::kWeight, {x, weight}, coded ? Fill::kCodes : Fill::kWeights}};
  if (coded) {
    add_end(c, {y, Activation::kNone, is_conv && s.more, s.more}, s.out, s.batch, output, true);
  } else {
    c.inputs.push_back({Role::kBias, {x, {s.out}}, Fill::kNormal});
    if (is_conv && s.more)
      c.inputs.push_back({Role::kRowAdd, {x, {s.batch, s.out}}, Fill::kNormal});
    if (s.more) c.inputs.push_back({Role::kResidual, {x, output}, Fill::kNormal});
  }
  c.roundings = 1.0;
  c.depth = static_cast<double>(s.in * std::max<int64_t>(s.kernel * s.kernel, 1)) + 16.0;
  return c;
}

inline Case norm_of_measured_case(DType x, DType y, Shape shape, int64_t groups,
                                  Activation activation) {
  const bool coded = size_of(y) == 1;
  const int64_t channels = shape[-1];
  Case c;
  c.name = "group norm of measured " + std::string(to_string(x)) + " " + text(shape) + " " +
           std::to_string(groups) + " to " + std::string(to_string(y));
  graph::GroupNorm op{groups, 1e-5, activation};
  if (coded) op.out = y;
  c.attrs = op;
  const TensorType type{x, std::move(shape)};
  c.inputs = {{Role::kX, type, Fill::kNormal},
              {Role::kGamma, {DType::kF32, {channels}}, Fill::kNormal},
              {Role::kBeta, {DType::kF32, {channels}}, Fill::kNormal}};
  if (coded) c.inputs.push_back({Role::kYScale, {DType::kF32, {1}}, Fill::kScales});
  c.inputs.push_back({Role::kGroupStatistics, graph::group_statistics_type("case", type, groups),
                      Fill::kGroupStatistics});
  c.roundings = 1.0;
  c.depth = 64.0;
  c.steps = 1;
  return c;
}

// Groups of 4 to 80 channels, several images, last
// columns of every tile; 16-bit convolutions as large as the Hopper kernel wants them.
inline std::vector<Case> group_statistics_cases() {
  std::vector<Case> cases;
  for (const DType t : {DType::kF16, DType::kBF16}) {
    for (const MeasuredProduct& s : {MeasuredProduct{2, 64, 64, 8, 160, 3, 16, true},
                                     {1, 64, 60, 8, 400, 3, 10, false},
                                     {1, 128, 80, 8, 128, 3, 32, false},
                                     {2, 64, 64, 8, 160, 3, 2, false},
                                     {1, 64, 64, 8, 512, 3, 32, true},
                                     {1, 64, 64, 16, 512, 1, 32, true},
                                     {1, 256, 256, 8, 64, 3, 8, true},
                                     {2, 32, 64, 64, 320, 0, 32, true},
                                     {3, 8, 8, 48, 80, 0, 8, false},
                                     {1, 12, 16, 64, 640, 0, 8, true},
                                     {2, 8, 16, 64, 24, 0, 3, false}}) {
      cases.push_back(measured_case(t, t, s));
    }
    cases.push_back(norm_of_measured_case(t, t, {2, 16, 12, 320}, 32, Activation::kSilu));
    cases.push_back(norm_of_measured_case(t, t, {1, 64, 40}, 4, Activation::kNone));
    cases.push_back(norm_of_measured_case(t, DType::kI8, {2, 8, 8, 640}, 32, Activation::kSilu));
    cases.push_back(
        norm_of_measured_case(t, DType::kF8E4M3, {2, 8, 8, 1280}, 32, Activation::kSilu));
    // More pieces than the second half merges by itself, fewer and more than a block has threads.
    cases.push_back(norm_of_measured_case(t, t, {2, 160, 248, 16}, 4, Activation::kSilu));
    cases.push_back(norm_of_measured_case(t, DType::kI8, {2, 320, 256, 32}, 4, Activation::kNone));
  }
  cases.push_back(
      norm_of_measured_case(DType::kF32, DType::kF32, {2, 8, 24, 21}, 7, Activation::kNone));
  for (const DType t : {DType::kI8, DType::kF8E4M3}) {
    for (const MeasuredProduct& s : {MeasuredProduct{2, 16, 8, 80, 48, 3, 6, true},
                                     {3, 8, 8, 144, 168, 3, 21, false},
                                     {2, 16, 16, 32, 200, 3, 5, true},
                                     {2, 8, 8, 16, 80, 3, 20, false},
                                     {2, 16, 16, 64, 320, 1, 32, true},
                                     {2, 8, 8, 48, 160, 0, 16, true},
                                     {1, 20, 16, 64, 96, 0, 12, false},
                                     {2, 16, 8, 96, 400, 0, 10, true}}) {
      cases.push_back(measured_case(t, DType::kF16, s));
    }
  }
  // What the CPU makes: lines of whole pieces, groups that divide a panel.
  for (const DType y : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const MeasuredProduct& s : {MeasuredProduct{2, 3, 64, 64, 64, 3, 16, true},
                                     {1, 5, 128, 80, 80, 3, 10, false},
                                     {2, 2, 64, 32, 512, 3, 32, true},
                                     {2, 4, 32, 64, 96, 1, 96, true},
                                     {2, 16, 12, 64, 48, 0, 3, true}}) {
      cases.push_back(measured_case(DType::kI8, y, s));
    }
  }
  return cases;
}

}  // namespace halftone::conformance
