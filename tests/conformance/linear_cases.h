#pragma once

#include "case.h"

namespace halftone::conformance {

// Rows, inputs, outputs: usual, ragged against every tile, a single row, none, deeper than a slice.
inline std::vector<Case> linear_cases() {
  struct Size {
    int64_t batch, rows, in, out;
  };
  std::vector<Case> cases;
  const auto add = [&](DType t, DType other, Size s, Activation activation, bool geglu,
                       bool row_add, bool residual, Fill fill) {
    Case c;
    const int64_t weight_rows = geglu ? 2 * s.out : s.out;
    c.name = std::string(to_string(t)) + "," + std::string(to_string(other)) + " " +
             text({s.batch, s.rows, s.in, s.out}) + " " + std::string(to_string(activation)) +
             (geglu ? " geglu" : "") + (row_add ? " row_add" : "") + (residual ? " residual" : "");
    c.attrs = graph::Linear{activation, geglu};
    const bool exact = fill == Fill::kIntegers;
    c.inputs = {{Role::kX, {t, {s.batch, s.rows, s.in}}, fill},
                {Role::kWeight, {other, {weight_rows, s.in}}, exact ? fill : Fill::kWeights},
                {Role::kBias, {other, {weight_rows}}, fill}};
    if (row_add) c.inputs.push_back({Role::kRowAdd, {t, {s.batch, weight_rows}}, fill});
    if (residual) c.inputs.push_back({Role::kResidual, {t, {s.batch, s.rows, s.out}}, fill});
    // One rounding of the result; the sum has `in` terms and a handful after it. Activations cost
    // at most 8 units of f32 on top.
    if (!exact) {
      c.roundings = 1.0;
      c.depth = static_cast<double>(s.in) + 16.0;
    }
    cases.push_back(std::move(c));
  };
  for (const DType t : kFloats) {
    for (const Fill fill : {Fill::kIntegers, Fill::kNormal}) {
      add(t, t, {1, 64, 64, 64}, Activation::kNone, false, false, false, fill);
      add(t, t, {2, 37, 51, 77}, Activation::kNone, false, false, true, fill);
      add(t, t, {1, 1, 320, 130}, Activation::kNone, false, false, false, fill);
      add(t, t, {3, 13, 600, 33}, Activation::kNone, false, true, true, fill);
      add(t, t, {1, 400, 40, 96}, Activation::kNone, false, false, false, fill);
      add(t, DType::kF32, {1, 9, 24, 40}, Activation::kNone, false, false, false, fill);
    }
    add(t, t, {1, 0, 32, 32}, Activation::kNone, false, false, false, Fill::kNormal);
    add(t, t, {1, 1, 1, 1}, Activation::kNone, false, false, false, Fill::kNormal);
    for (const Activation activation :
         {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh, Activation::kQuickGelu}) {
      add(t, t, {2, 20, 48, 50}, activation, false, true, true, Fill::kNormal);
    }
    add(t, t, {1, 30, 64, 80}, Activation::kNone, true, false, false, Fill::kNormal);
    add(t, t, {1, 1000, 24, 640}, Activation::kNone, true, false, true, Fill::kNormal);
    add(t, t, {2, 21, 33, 45}, Activation::kNone, true, false, true, Fill::kNormal);
    add(t, t, {2, 5, 33, 7}, Activation::kNone, true, true, true, Fill::kNormal);
    // Few tokens of a text, ragged in all three sizes.
    add(t, t, {1, 80, 2056, 72}, Activation::kGelu, false, false, true, Fill::kNormal);
    add(t, t, {1, 7, 1288, 72}, Activation::kSilu, false, false, false, Fill::kNormal);
    add(t, t, {1, 77, 200, 640}, Activation::kNone, false, false, true, Fill::kIntegers);
    add(t, t, {1, 1, 72, 5128}, Activation::kQuickGelu, false, false, true, Fill::kNormal);
    add(t, t, {2, 77, 776, 136}, Activation::kNone, false, false, true, Fill::kNormal);
    add(t, t, {1, 160, 72, 328}, Activation::kGeluTanh, false, false, true, Fill::kNormal);
    add(t, t, {1, 20, 1024, 8}, Activation::kNone, false, false, true, Fill::kNormal);
    cases.back().name += " f32 bias";
    cases.back().inputs[2].type.dtype = DType::kF32;
  }
  return cases;
}

}  // namespace halftone::conformance
