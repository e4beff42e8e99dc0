#pragma once

#include "case.h"

namespace halftone::conformance {

inline std::vector<Case> elementwise_cases() {
  std::vector<Case> cases;
  for (const Shape& shape : {Shape{1, 9, 7, 3}, Shape{1, 64, 64, 3}, Shape{5}, Shape{0, 3}}) {
    cases.push_back(
        {text(shape), graph::ToBytes{}, {{Role::kX, {DType::kF32, shape}, Fill::kNormal}}});
  }
  for (const DType t : kFloats) {
    const std::string type(to_string(t));
    for (const Shape& shape :
         {Shape{2, 3, 64}, Shape{5, 37}, Shape{1, 7000}, Shape{70, 300}, Shape{0, 8}}) {
      const Input x{Role::kX, {t, shape}, Fill::kNormal};
      const Input integers{Role::kX, {t, shape}, Fill::kIntegers};
      for (const Activation activation : {Activation::kNone, Activation::kSilu, Activation::kGelu,
                                          Activation::kGeluTanh, Activation::kQuickGelu}) {
        // The magnitude is |x|; exp, division and erf cost at most 8 units of f32.
        cases.push_back({type + text(shape) + std::string(to_string(activation)),
                         graph::Unary{activation},
                         {x},
                         1.0,
                         8.0});
      }
      cases.push_back({type + text(shape), graph::Affine{0.5, 2.0, -1.0, 3.0}, {integers}});
      cases.push_back({type + text(shape), graph::Affine{0.18215, -0.3}, {x}, 1.0, 2.0});
      cases.push_back({type + text(shape), graph::Add{}, {integers, integers}});
      cases.push_back({type + text(shape), graph::Add{}, {x, x}, 1.0, 1.0});
      for (const DType to : kFloats) {
        cases.push_back({type + text(shape) + std::string(to_string(to)), graph::Cast{to}, {x}});
      }
    }
    cases.push_back({type + " per row",
                     graph::Add{},
                     {{Role::kX, {t, {3, 5, 7, 33}}, Fill::kIntegers},
                      {Role::kX, {t, {3, 33}}, Fill::kIntegers}}});
    cases.push_back({type + " table",
                     graph::Add{true},
                     {{Role::kX, {t, {3, 5, 33}}, Fill::kIntegers},
                      {Role::kX, {t, {5, 33}}, Fill::kIntegers}}});
    for (const Shape& shape : {Shape{2, 9, 64}, Shape{3, 70}, Shape{2, 5000}, Shape{0, 6}}) {
      // The magnitude is |x| |gate|.
      cases.push_back(
          {type + text(shape), graph::Geglu{}, {{Role::kX, {t, shape}, Fill::kNormal}}, 1.0, 8.0});
    }
    cases.push_back({type,
                     graph::Sinusoidal{32, true, 0.0, 10000.0},
                     {{Role::kX, {DType::kF32, {3, 2}}, Fill::kNormal}},
                     1.0,
                     8.0});
  }
  return cases;
}

}  // namespace halftone::conformance
