#pragma once

#include "case.h"

namespace halftone::conformance {

// Both halves of a layer norm between linears (graph/ops/linear.h), and their constants.
struct RowStatisticsSize {
  int64_t rows, in, out;
};

// Describes its rows.
inline Case describing_case(DType t, RowStatisticsSize s, bool residual, Fill fill) {
  Case c;
  c.name = "describing " + std::string(to_string(t)) + " " + text({s.rows, s.in, s.out}) +
           (residual ? " residual" : "") + (fill == Fill::kFar ? " far" : "");
  graph::Linear op;
  op.row_statistics = true;
  c.attrs = op;
  c.inputs = {{Role::kX, {t, {s.rows, s.in}}, Fill::kNormal},
              {Role::kWeight, {t, {s.out, s.in}}, Fill::kWeights},
              {Role::kBias, {t, {s.out}}, fill}};
  if (residual) c.inputs.push_back({Role::kResidual, {t, {s.rows, s.out}}, fill});
  c.roundings = 1.0;
  c.depth = static_cast<double>(s.in) + 16.0;
  return c;
}

// Reads rows that are described.
inline Case normalizing_case(DType t, RowStatisticsSize s, Activation activation, bool geglu,
                             bool residual, Fill x) {
  Case c;
  const int64_t weight_rows = geglu ? 2 * s.out : s.out;
  c.name = "normalizing " + std::string(to_string(t)) + " " + text({s.rows, s.in, s.out}) + " " +
           std::string(to_string(activation)) + (geglu ? " geglu" : "") +
           (residual ? " residual" : "") + (x == Fill::kFar ? " far" : "");
  graph::Linear op{activation, geglu};
  op.eps = 1e-5;
  c.attrs = op;
  c.inputs = {
      {Role::kX, {t, {s.rows, s.in}}, x},
      {Role::kWeight, {t, {weight_rows, s.in}}, Fill::kWeights},
      {Role::kBias, {DType::kF32, {weight_rows}}, Fill::kNormal},
      {Role::kRowStatistics, graph::row_statistics_type({s.rows, s.in}), Fill::kRowStatistics},
      {Role::kColumnSum, {DType::kF32, {weight_rows}}, Fill::kRowSums}};
  if (residual) c.inputs.push_back({Role::kResidual, {t, {s.rows, s.out}}, Fill::kNormal});
  c.roundings = 1.0;
  c.depth = static_cast<double>(s.in) + 64.0;
  return c;
}

inline std::vector<Case> row_statistics_cases() {
  std::vector<Case> cases;
  for (const DType t : kFloats) {
    cases.push_back(describing_case(t, {37, 40, 200}, true, Fill::kNormal));
    cases.push_back(describing_case(t, {5, 24, 33}, false, Fill::kFar));
    cases.push_back(describing_case(t, {0, 24, 80}, false, Fill::kNormal));
    for (const Fill x : {Fill::kNormal, Fill::kFar}) {
      cases.push_back(normalizing_case(t, {37, 200, 72}, Activation::kNone, false, false, x));
      cases.push_back(normalizing_case(t, {21, 90, 33}, Activation::kGelu, false, true, x));
      cases.push_back(normalizing_case(t, {30, 64, 80}, Activation::kNone, true, false, x));
    }
  }
  return cases;
}

// Enough rows for a GPU's own kernels, which leave small products to the library; ragged ones; as
// many columns as networks have.
inline std::vector<Case> large_row_statistics_cases() {
  std::vector<Case> cases;
  for (const DType t : {DType::kF16, DType::kBF16}) {
    for (const int64_t out : {640, 768, 1000, 1280}) {
      cases.push_back(describing_case(t, {1000, 72, out}, out % 640 == 0, Fill::kNormal));
    }
    cases.push_back(describing_case(t, {1021, 64, 1280}, false, Fill::kFar));
    cases.push_back(describing_case(t, {1024, 40, 1360}, true, Fill::kFar));
    cases.push_back(describing_case(t, {256, 320, 1280}, true, Fill::kNormal));
    const auto add = [&](RowStatisticsSize s, Activation activation, bool geglu, bool residual,
                         Fill x) {
      cases.push_back(normalizing_case(t, s, activation, geglu, residual, x));
    };
    add({1000, 72, 1280}, Activation::kNone, false, false, Fill::kNormal);
    add({1021, 200, 1288}, Activation::kNone, false, true, Fill::kNormal);
    add({1000, 168, 1280}, Activation::kGelu, false, false, Fill::kNormal);
    add({1010, 136, 640}, Activation::kNone, true, false, Fill::kNormal);
    add({700, 200, 1000}, Activation::kNone, false, false, Fill::kFar);
    add({1000, 72, 1280}, Activation::kQuickGelu, false, true, Fill::kFar);
    add({1010, 72, 640}, Activation::kNone, true, false, Fill::kFar);
    add({256, 1280, 640}, Activation::kNone, false, false, Fill::kFar);
    add({256, 768, 640}, Activation::kGelu, false, false, Fill::kFar);
  }
  return cases;
}

inline std::vector<Case> norm_weight_cases() {
  std::vector<Case> cases;
  for (const DType t : kFloats) {
    for (const DType around : {t, DType::kF32}) {
      for (const bool bias : {false, true}) {
        Case c;
        c.name = std::string(to_string(t)) + "," + std::string(to_string(around)) +
                 (bias ? " bias" : "");
        c.attrs = graph::NormWeight{};
        c.inputs = {{Role::kWeight, {t, {45, 131}}, Fill::kWeights},
                    {Role::kGamma, {around, {131}}, Fill::kNormal},
                    {Role::kBeta, {around, {131}}, Fill::kNormal}};
        if (bias) c.inputs.push_back({Role::kBias, {around, {45}}, Fill::kNormal});
        cases.push_back(std::move(c));
      }
    }
  }
  return cases;
}

}  // namespace halftone::conformance
