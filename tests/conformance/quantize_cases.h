#pragma once

#include "case.h"

namespace halftone::conformance {

using graph::Granularity;

inline std::vector<Case> quantize_cases() {
  std::vector<Case> cases;
  const auto add = [&](DType x, Shape shape, graph::Quantize op, bool gamma, bool zero) {
    Case c;
    c.name = "quantize " + std::string(to_string(x)) + " to " + std::string(to_string(op.dtype)) +
             std::to_string(op.bits) + " " + text(shape) + " " +
             std::string(to_string(op.granularity)) + (op.dynamic ? " dynamic" : "") +
             (op.narrow ? " narrow" : "") + (gamma ? " gamma" : "") + (zero ? " zero" : "");
    c.attrs = op;
    c.inputs = {{Role::kX, {x, shape}, Fill::kNormal}};
    if (gamma) c.inputs.push_back({Role::kGamma, {DType::kF32, {shape[-1]}}, Fill::kNormal});
    if (zero) c.inputs.push_back({Role::kXZero, {DType::kI32, {1}}, Fill::kIndices});
    if (!op.dynamic) {
      c.inputs.push_back(
          {Role::kXScale, {DType::kF32, scale_shape(op.granularity, shape)}, Fill::kScales});
    }
    cases.push_back(std::move(c));
  };
  for (const DType t : kFloats) {
    for (const Granularity g : {Granularity::kPerTensor, Granularity::kPerChannel,
                                Granularity::kPerToken, Granularity::kUniform}) {
      for (const bool dynamic : {false, true}) {
        add(t, {3, 5, 52}, {DType::kI8, 8, g, dynamic, false}, false, false);
        add(t, {3, 5, 52}, {DType::kU8, 4, g, dynamic, true}, true, false);
        add(t, {4, 77}, {DType::kF8E4M3, 8, g, dynamic, false}, dynamic, false);
      }
    }
    // Rows in registers, from a few threads to a block each, and longer ones.
    for (const int64_t cols : {8, 640, 1280, 2560, 5120, 10240, 10248}) {
      const DType out = cols % 16 == 0 ? DType::kI8 : DType::kF8E4M3;
      add(t, {5, cols}, {out, 8, Granularity::kPerToken, true, false}, cols == 640, false);
    }
    for (const DType out : {DType::kI8, DType::kF8E4M3}) {
      add(t, {2, 9, 1288}, {out, 8, Granularity::kPerToken, true, false}, false, false);
      add(t, {3, 7, 1288}, {out, 8, Granularity::kPerTensor, false, false}, false, false);
      add(t, {3, 7, 1288}, {out, 8, Granularity::kPerToken, false, false}, true, false);
    }
    add(t, {4, 320}, {DType::kI8, 8, Granularity::kPerToken, true, true}, false, false);
    add(t, {7, 2100}, {DType::kI8, 8, Granularity::kPerTensor, false, false}, true, true);
    add(t, {2, 40}, {DType::kU8, 2, Granularity::kPerTensor, false, false}, false, true);
    add(t, {0, 8}, {DType::kI8, 8, Granularity::kPerToken, true, false}, false, false);
  }
  return cases;
}

inline std::vector<Case> dequantize_cases() {
  std::vector<Case> cases;
  const auto add = [&](DType x, int64_t bits, Shape shape, DType y, Granularity granularity,
                       bool zero) {
    Case c;
    c.name = "dequantize " + std::string(to_string(x)) + std::to_string(bits) + " to " +
             std::string(to_string(y)) + " " + text(shape) + " " +
             std::string(to_string(granularity)) + (zero ? " zero" : "");
    c.attrs = graph::Dequantize{y, bits, granularity};
    Shape stored = shape;
    stored[-1] = shape[-1] * bits / 8;
    c.inputs = {{Role::kX, {x, stored}, Fill::kCodes},
                {Role::kXScale, {DType::kF32, scale_shape(granularity, shape)}, Fill::kScales}};
    if (zero) c.inputs.push_back({Role::kXZero, {DType::kI32, {1}}, Fill::kIndices});
    cases.push_back(std::move(c));
  };
  for (const DType y : kFloats) {
    for (const Granularity g :
         {Granularity::kPerTensor, Granularity::kPerChannel, Granularity::kPerToken}) {
      add(DType::kI8, 8, {3, 5, 52}, y, g, false);
      add(DType::kF8E4M3, 8, {2, 256}, y, g, false);
      add(DType::kU8, 4, {4, 36}, y, g, false);
    }
    add(DType::kI8, 8, {3, 2100}, y, Granularity::kPerTensor, true);
    add(DType::kU8, 2, {3, 16}, y, Granularity::kPerTensor, true);
  }
  return cases;
}

inline std::vector<Case> scale_cases() {
  std::vector<Case> cases;
  const auto add = [&](DType t, const Shape& shape, int64_t axis) {
    Case c;
    c.name = "scale " + std::string(to_string(t)) + " " + to_string(shape) + " axis " +
             std::to_string(axis);
    c.attrs = graph::Scale{axis};
    c.inputs = {{Role::kX, {t, shape}, Fill::kNormal},
                {Role::kGamma, {DType::kF32, {shape[static_cast<int>(axis)]}}, Fill::kNormal}};
    cases.push_back(std::move(c));
  };
  for (const DType t : kFloats) {
    for (const int64_t axis : {0, -1}) {
      add(t, {5, 3, 2070}, axis);
      add(t, {2070}, axis);  // a bias
    }
  }
  return cases;
}

// Statistics of observers: extremes are exact, sums have an order of their own.
inline std::vector<Case> reduce_cases() {
  using graph::Reduction;
  std::vector<Case> cases;
  for (const DType t : kFloats) {
    const Shape shape{2, 9, 130};
    const auto add = [&](const Shape& x, Reduction reduction, Granularity g) {
      Case c;
      c.name = "reduce " + std::string(to_string(t)) + " " + text(x) + " " +
               std::string(to_string(reduction)) + " " + std::string(to_string(g));
      c.attrs = graph::Reduce{reduction, g};
      c.inputs = {{Role::kX, {t, x}, Fill::kNormal}};
      if (reduction == Reduction::kSumSquares) c.depth = 2.0 * 9.0 * 130.0;
      cases.push_back(std::move(c));
    };
    for (const Reduction reduction :
         {Reduction::kAbsMax, Reduction::kMin, Reduction::kMax, Reduction::kSumSquares}) {
      for (const Granularity g :
           {Granularity::kPerTensor, Granularity::kPerToken, Granularity::kPerColumn}) {
        add(shape, reduction, g);
      }
      add({0, 8}, reduction, Granularity::kPerTensor);
      add({3, 0}, reduction, Granularity::kPerTensor);
    }
    Case c;
    c.name = "histogram " + std::string(to_string(t));
    c.attrs = graph::Histogram{};
    c.inputs = {{Role::kX, {t, shape}, Fill::kNormal}};
    cases.push_back(std::move(c));
  }
  return cases;
}

// Norms that end in Quantize: their sums have another order than the reference's.
inline std::vector<Case> quantized_norm_cases() {
  std::vector<Case> cases;
  struct Operands {
    DType affine;  // of gamma and beta
    Fill x = Fill::kNormal;
  };
  const auto add_of = [&](DType t, const Operands& of, OpAttrs attrs, const Shape& x, DType out,
                          Granularity granularity, bool dynamic) {
    Case c;
    c.name = "quantized norm " + std::string(graph::name_of(attrs)) + " " +
             std::string(to_string(t)) + "," + std::string(to_string(of.affine)) + " " + text(x) +
             " to " + std::string(to_string(out)) + " " + std::string(to_string(granularity)) +
             (dynamic ? " dynamic" : "") + (of.x == Fill::kFar ? " far" : "");
    c.attrs = std::move(attrs);
    c.inputs = {{Role::kX, {t, x}, of.x},
                {Role::kGamma, {of.affine, {x[-1]}}, Fill::kNormal},
                {Role::kBeta, {of.affine, {x[-1]}}, Fill::kNormal}};
    if (!dynamic) {
      c.inputs.push_back(
          {Role::kYScale, {DType::kF32, scale_shape(granularity, x)}, Fill::kScales});
    }
    c.steps = 1;
    c.depth = 64.0;
    cases.push_back(std::move(c));
  };
  const auto add = [&](DType t, OpAttrs attrs, const Shape& x, DType out, Granularity granularity,
                       bool dynamic) {
    add_of(t, {t}, std::move(attrs), x, out, granularity, dynamic);
  };
  for (const DType t : kFloats) {
    for (const DType out : {DType::kI8, DType::kF8E4M3}) {
      // Widths that kernels know when they are compiled, with the parameters that networks have;
      // and others, whose columns are padded: what stands there must not reach a row's scale.
      const Granularity token = Granularity::kPerToken;
      for (const int64_t width : {320, 640, 768, 1280, 1536}) {
        add_of(t, {DType::kF32}, graph::LayerNorm{1e-5, out, token, true}, {9, width}, out, token,
               true);
      }
      for (const int64_t width : {72, 1000, 1280}) {
        add_of(t, {t, Fill::kFar}, graph::LayerNorm{1e-5, out, token, true}, {5, width}, out, token,
               true);
      }
      for (const Granularity g : {Granularity::kPerTensor, Granularity::kPerToken}) {
        for (const bool dynamic : {false, true}) {
          add(t, graph::GroupNorm{8, 1e-5, Activation::kSilu, out, g, dynamic}, {2, 6, 5, 64}, out,
              g, dynamic);
          add(t, graph::LayerNorm{1e-5, out, g, dynamic}, {3, 11, 333}, out, g, dynamic);
          add(t, graph::LayerNorm{1e-5, out, g, dynamic}, {1, 13, 640}, out, g, dynamic);
          add(t, graph::LayerNorm{1e-5, out, g, dynamic}, {2300, 1280}, out, g, dynamic);
          add(t, graph::LayerNorm{1e-5, out, g, dynamic}, {3, 2048}, out, g, dynamic);
        }
      }
      // Of nothing: the scales are there all the same.
      add(t, graph::LayerNorm{1e-5, out, Granularity::kPerToken, true}, {3, 0}, out,
          Granularity::kPerToken, true);
      const Granularity whole = Granularity::kPerTensor;
      add(t, graph::GroupNorm{4, 1e-5, Activation::kNone, out, whole, true}, {2, 0, 3, 8}, out,
          whole, true);
      for (const Activation activation :
           {Activation::kNone, Activation::kSilu, Activation::kGelu}) {
        add(t, graph::GroupNorm{32, 1e-5, activation, out, whole, false}, {2, 5, 7, 320}, out,
            whole, false);
      }
    }
  }
  return cases;
}

}  // namespace halftone::conformance
