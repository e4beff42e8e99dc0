#pragma once

#include "case.h"

namespace halftone::conformance {

// Sizes of the models' blocks in small, ragged channels, strides and the encoder's one-sided
// padding.
inline std::vector<Case> conv2d_cases() {
  struct Size {
    int64_t batch, height, width, in, out, kernel, stride, begin, end;
  };
  std::vector<Case> cases;
  const auto add = [&](DType t, Size s, Activation activation, bool row_add, bool residual,
                       Fill fill) {
    Case c;
    c.name = std::string(to_string(t)) + " " +
             text({s.batch, s.height, s.width, s.in, s.out, s.kernel, s.stride}) + " " +
             std::string(to_string(activation)) + (row_add ? " row_add" : "") +
             (residual ? " residual" : "");
    c.attrs = graph::Conv2d{s.stride, s.begin, s.end, activation};
    const auto extent = [&](int64_t n) { return (n + s.begin + s.end - s.kernel) / s.stride + 1; };
    const bool exact = fill == Fill::kIntegers;
    c.inputs = {
        {Role::kX, {t, {s.batch, s.height, s.width, s.in}}, fill},
        {Role::kWeight, {t, {s.out, s.kernel, s.kernel, s.in}}, exact ? fill : Fill::kWeights},
        {Role::kBias, {t, {s.out}}, fill}};
    if (row_add) c.inputs.push_back({Role::kRowAdd, {t, {s.batch, s.out}}, fill});
    if (residual) {
      c.inputs.push_back(
          {Role::kResidual, {t, {s.batch, extent(s.height), extent(s.width), s.out}}, fill});
    }
    // As for linear, with kernel * kernel * in terms.
    if (!exact) {
      c.roundings = 1.0;
      c.depth = static_cast<double>(s.kernel * s.kernel * s.in) + 16.0;
    }
    cases.push_back(std::move(c));
  };
  for (const DType t : kFloats) {
    for (const Fill fill : {Fill::kIntegers, Fill::kNormal}) {
      add(t, {1, 8, 8, 32, 64, 3, 1, 1, 1}, Activation::kNone, false, false, fill);
      add(t, {2, 9, 7, 19, 21, 3, 1, 1, 1}, Activation::kNone, true, true, fill);
      add(t, {1, 8, 8, 4, 48, 3, 1, 1, 1}, Activation::kNone, false, false, fill);
      add(t, {2, 8, 8, 48, 4, 3, 1, 1, 1}, Activation::kNone, false, false, fill);
      add(t, {2, 8, 6, 64, 32, 1, 1, 0, 0}, Activation::kNone, false, true, fill);
      add(t, {1, 10, 12, 32, 32, 3, 2, 1, 1}, Activation::kNone, false, false, fill);
      add(t, {1, 11, 8, 16, 24, 3, 2, 0, 1}, Activation::kNone, false, false, fill);
      add(t, {2, 5, 5, 32, 40, 3, 1, 1, 1}, Activation::kNone, true, false, fill);
    }
    for (const Activation activation :
         {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh, Activation::kQuickGelu}) {
      add(t, {2, 6, 5, 16, 32, 3, 1, 1, 1}, activation, true, true, Fill::kNormal);
    }
    add(t, {0, 6, 5, 16, 32, 3, 1, 1, 1}, Activation::kNone, false, false, Fill::kNormal);
    add(t, {3, 1, 5, 16, 72, 1, 1, 0, 0}, Activation::kNone, false, false, Fill::kNormal);
    // The ends of the networks, in ragged images.
    add(t, {2, 19, 37, 4, 96, 3, 1, 1, 1}, Activation::kNone, false, false, Fill::kNormal);
    add(t, {1, 11, 14, 3, 32, 3, 1, 1, 1}, Activation::kNone, false, false, Fill::kIntegers);
    // Outputs that a GPU shares out between blocks, the last of which has fewer.
    if (t == DType::kF16) {
      add(t, {1, 50, 51, 4, 288, 3, 1, 1, 1}, Activation::kNone, false, false, Fill::kNormal);
    }
    add(t, {1, 9, 10, 8, 64, 3, 2, 1, 1}, Activation::kNone, false, false, Fill::kNormal);
    add(t, {2, 19, 37, 64, 4, 3, 1, 1, 1}, Activation::kNone, false, false, Fill::kNormal);
    add(t, {1, 9, 33, 192, 3, 3, 1, 1, 1}, Activation::kNone, false, false, Fill::kNormal);
    add(t, {2, 8, 16, 128, 2, 3, 1, 1, 1}, Activation::kNone, false, false, Fill::kNormal);
    add(t, {1, 10, 5, 64, 1, 3, 1, 0, 0}, Activation::kNone, false, false, Fill::kNormal);
    add(t, {1, 9, 16, 192, 3, 3, 1, 1, 1}, Activation::kNone, false, false, Fill::kIntegers);
    // Large enough for the kernels that fill a GPU.
    add(t, {2, 64, 60, 8, 160, 3, 1, 1, 1}, Activation::kNone, true, true, Fill::kNormal);
  }
  // Sub-pixel convolutions; parities end inside tiles of columns, lines inside tiles of rows.
  for (const DType t : kFloats) {
    for (const Size& s : {Size{1, 4, 5, 8, 16, 2, 1, 1, 1}, Size{2, 40, 37, 8, 416, 2, 1, 1, 1}}) {
      add(t, s, Activation::kNone, false, false, Fill::kNormal);
      cases.back().name += " interleaved";
      std::get<graph::Conv2d>(cases.back().attrs).interleaved = true;
    }
  }
  return cases;
}

}  // namespace halftone::conformance
