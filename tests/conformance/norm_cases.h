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
    add(t, DType::kF32, {1, 5, 11, 1280}, 32, Activation::kSilu);
    add(t, DType::kF32, {1, 3, 7, 2560}, 32, Activation::kNone);  // one row of threads a block
    add(t, t, {1, 65, 4096}, 64, Activation::kNone);
    add(t, t, {1, 40, 40, 30}, 3, Activation::kGelu);
    add(t, t, {3, 12}, 4, Activation::kNone);
    add(t, t, {2, 0, 8}, 4, Activation::kNone);
    add(t, t, {0, 3, 8}, 4, Activation::kNone);
  }
  return cases;
}

// Two parts of x, which may end within a group, and what is handed on: nothing, x or its codes.
inline std::vector<Case> joined_norm_cases() {
  struct Parts {
    Shape x;
    int64_t second, groups;
  };
  std::vector<Case> cases;
  const auto add = [&](DType t, const Parts& parts, DType out, bool joins, DType joined) {
    const bool coded = out != DType::kF32;
    Case c;
    c.name = "joined " + std::string(to_string(t)) + " " + text(parts.x) + "+" +
             std::to_string(parts.second) + " to " + std::string(to_string(coded ? out : t)) +
             (joins ? " and " + std::string(to_string(joined)) : "");
    graph::GroupNorm op{parts.groups, 1e-5, Activation::kSilu, out};
    op.joins = joins;
    op.joined = joined;
    c.attrs = op;
    Shape second = parts.x;
    second[-1] = parts.second;
    const int64_t channels = parts.x[-1] + parts.second;
    c.inputs = {{Role::kX, {t, parts.x}, Fill::kNormal}};
    if (parts.second > 0) c.inputs.push_back({Role::kX, {t, second}, Fill::kFar});
    c.inputs.push_back({Role::kGamma, {DType::kF32, {channels}}, Fill::kNormal});
    c.inputs.push_back({Role::kBeta, {DType::kF32, {channels}}, Fill::kNormal});
    if (coded) c.inputs.push_back({Role::kYScale, {DType::kF32, {1}}, Fill::kWideScales});
    if (joined != DType::kF32)
      c.inputs.push_back({Role::kXScale, {DType::kF32, {1}}, Fill::kUnitScales});
    c.steps = 1;
    c.roundings = 1.0;
    // The second part is 30 deviations away: what is subtracted from it has as many times the
    // error.
    c.depth = 256.0;
    cases.push_back(std::move(c));
  };
  const Parts all[] = {{{2, 24, 20, 1280}, 640, 32}, {{1, 63, 65, 640}, 320, 32},
                       {{2, 9, 7, 320}, 0, 32},      {{1, 5, 3, 24}, 8, 4},
                       {{1, 40, 30}, 6, 3},          {{2, 0, 8}, 8, 4}};
  for (const Parts& parts : all) {
    for (const DType t : kFloats) {
      if (parts.second > 0) add(t, parts, DType::kF32, false, DType::kF32);
      add(t, parts, DType::kF32, true, DType::kF32);
      for (const DType code : {DType::kI8, DType::kF8E4M3}) {
        add(t, parts, code, true, DType::kF32);
        add(t, parts, code, true, code);
      }
    }
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
    add(t, DType::kF32, {37, 640});
    add(t, DType::kF32, {5, 1280});
    add(t, DType::kF32, {2, 7, 768});
    add(t, t, {6, 2048});
    add(t, DType::kF32, {3, 2056});
    add(t, DType::kF32, {3, 11, 333});
    add(t, t, {1, 1280});
    add(t, t, {5, 9});
    add(t, t, {0, 64});
    // More rows than a GPU takes at once, so that a warp has a second and a third.
    add(t, DType::kF32, {4500, 640});
    add(t, t, {2300, 1536});
  }
  return cases;
}

// Enough rows that a thread of a GPU takes several batches of them, several images, groups of 4 to
// 60 channels and clusters of every size.
inline std::vector<Case> large_norm_cases() {
  std::vector<Case> cases;
  for (const DType t : {DType::kF16, DType::kBF16}) {
    for (const DType out : {DType::kF32, DType::kI8, DType::kF8E4M3}) {
      for (const Shape& x : {Shape{9, 17, 25, 960}, Shape{1, 63, 65, 320}, Shape{2, 20, 20, 1920},
                             Shape{1, 24, 31, 128}, Shape{2, 16, 16, 1280}}) {
        const bool coded = out != DType::kF32;
        Case c;
        c.name = "large " + std::string(to_string(t)) + " " + text(x) + " to " +
                 std::string(to_string(coded ? out : t));
        graph::GroupNorm op{32, 1e-5, x[0] == 2 ? Activation::kNone : Activation::kSilu};
        if (coded) op.out = out;
        c.attrs = op;
        c.inputs = {{Role::kX, {t, x}, Fill::kNormal},
                    {Role::kGamma, {DType::kF32, {x[-1]}}, Fill::kNormal},
                    {Role::kBeta, {DType::kF32, {x[-1]}}, Fill::kNormal}};
        if (coded) c.inputs.push_back({Role::kYScale, {DType::kF32, {1}}, Fill::kScales});
        c.steps = 1;
        c.roundings = 1.0;
        c.depth = 64.0;
        cases.push_back(std::move(c));
      }
    }
  }
  return cases;
}

}  // namespace halftone::conformance
