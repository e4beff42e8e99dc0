#pragma once

#include "case.h"

namespace halftone::conformance {

inline std::vector<Case> group_norm_cases() {
  std::vector<Case> cases;
  const auto add = [&](DType t, DType affine, Shape x, int64_t groups, Activation activation) {
    Case c;
    c.name = std::string(to_string(t)) + "," + std::string(to_string(affine)) + " " + text(x) +
             " " + std::to_string(groups) + " " + std::string(to_string(activation));
    c.attrs = graph::GroupNorm{groups, 1e-5, activation};
    const int64_t channels = x[-1];
    c.inputs = {{Role::kX, {t, std::move(x)}, Fill::kNormal},
                {Role::kGamma, {affine, {channels}}, Fill::kNormal},
                {Role::kBeta, {affine, {channels}}, Fill::kNormal}};
    // Values are of order one: mean, deviation, scale, shift and activation cost a few units each.
    c.roundings = 1.0;
    c.depth = 32.0;
    cases.push_back(std::move(c));
  };
  for (const DType t : kFloats) {
    add(t, t, {1, 8, 8, 64}, 32, Activation::kSilu);
    add(t, t, {2, 9, 7, 96}, 32, Activation::kNone);
    add(t, DType::kF32, {2, 33, 320}, 32, Activation::kSilu);
    add(t, t, {1, 40, 40, 30}, 3, Activation::kGelu);
    add(t, t, {3, 12}, 4, Activation::kNone);
    add(t, t, {2, 0, 8}, 4, Activation::kNone);
    add(t, t, {0, 3, 8}, 4, Activation::kNone);
  }
  return cases;
}

inline std::vector<Case> layer_norm_cases() {
  std::vector<Case> cases;
  const auto add = [&](DType t, DType affine, Shape x) {
    Case c;
    c.name = std::string(to_string(t)) + "," + std::string(to_string(affine)) + " " + text(x);
    c.attrs = graph::LayerNorm{1e-5};
    const int64_t channels = x[-1];
    c.inputs = {{Role::kX, {t, std::move(x)}, Fill::kNormal},
                {Role::kGamma, {affine, {channels}}, Fill::kNormal},
                {Role::kBeta, {affine, {channels}}, Fill::kNormal}};
    // As for group normalisation.
    c.roundings = 1.0;
    c.depth = 32.0;
    cases.push_back(std::move(c));
  };
  for (const DType t : kFloats) {
    add(t, t, {2, 77, 64});
    add(t, DType::kF32, {3, 11, 333});
    add(t, t, {1, 1280});
    add(t, t, {5, 9});
    add(t, t, {0, 64});
  }
  return cases;
}

}  // namespace halftone::conformance
