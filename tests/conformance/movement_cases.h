#pragma once

#include "case.h"

namespace halftone::conformance {

// Nothing is computed, so everything is equal.
inline std::vector<Case> movement_cases() {
  std::vector<Case> cases;
  for (const DType t : kFloats) {
    const std::string type(to_string(t));
    const auto x = [&](Shape shape) {
      return Input{Role::kX, {t, std::move(shape)}, Fill::kNormal};
    };
    const auto indices = [](Shape shape) {
      return Input{Role::kIndex, {DType::kI32, std::move(shape)}, Fill::kIndices};
    };
    cases.push_back(
        {type + " last", graph::Concat{-1}, {x({2, 3, 5}), x({2, 3, 7}), x({2, 3, 1})}});
    cases.push_back({type + " middle", graph::Concat{1}, {x({2, 3, 5}), x({2, 4, 5})}});
    cases.push_back({type + " first", graph::Concat{0}, {x({2, 3, 5}), x({1, 3, 5})}});
    cases.push_back({type + " empty", graph::Concat{0}, {x({0, 3, 5}), x({1, 3, 5})}});
    cases.push_back({type + " wide", graph::Concat{-1}, {x({2, 33, 320}), x({2, 33, 640})}});
    cases.push_back(
        {type + " of six",
         graph::Concat{1},
         {x({2, 3, 8}), x({2, 1, 8}), x({2, 0, 8}), x({2, 70, 8}), x({2, 2, 8}), x({2, 5, 8})}});
    cases.push_back({type + " last", graph::Slice{-1, 2, 5}, {x({2, 3, 9})}});
    cases.push_back({type + " middle", graph::Slice{1, 1, 3}, {x({2, 4, 9})}});
    cases.push_back({type + " first", graph::Slice{0, 1, 2}, {x({2, 4, 9})}});
    cases.push_back({type + " none", graph::Slice{0, 1, 1}, {x({2, 4, 9})}});
    cases.push_back({type, graph::Reshape{{3, 8}}, {x({2, 3, 4})}});
    cases.push_back({type + " flat", graph::Reshape{{24}}, {x({2, 3, 4})}});
    cases.push_back({type + " empty", graph::Reshape{{0, 8}}, {x({2, 0, 4})}});
    cases.push_back({type + " swap", graph::Transpose{{1, 0}}, {x({37, 21})}});
    cases.push_back({type + " nchw", graph::Transpose{{0, 3, 1, 2}}, {x({2, 5, 6, 7})}});
    cases.push_back({type + " kept", graph::Transpose{{0, 2, 1, 3}}, {x({2, 5, 6, 7})}});
    cases.push_back({type + " twice", graph::Upsample{10, 14}, {x({2, 5, 7, 9})}});
    cases.push_back({type + " odd", graph::Upsample{7, 9}, {x({1, 4, 5, 33})}});
    cases.push_back({type + " of two", graph::MaxPool{2, 2}, {x({2, 5, 6, 33})}});
    cases.push_back({type + " of three", graph::MaxPool{3, 2}, {x({2, 7, 4, 8})}});
    cases.push_back({type + " of one", graph::SubpixelMerge{}, {x({2, 2, 2, 8})}});
    cases.push_back({type, graph::SubpixelMerge{}, {x({2, 6, 5, 36})}});
    cases.push_back({type,
                     graph::Embedding{},
                     {indices({2, 7}), {Role::kWeight, {t, {5, 33}}, Fill::kNormal}}});
    cases.push_back({type, graph::SelectRow{}, {x({3, 6, 17}), indices({3})}});
  }
  for (const Shape& shape : {Shape{1, 3, 3, 1}, Shape{33, 3, 3, 21}, Shape{40, 3, 3, 64}}) {
    cases.push_back(
        {text(shape), graph::SubpixelWeight{}, {{Role::kX, {DType::kF32, shape}, Fill::kNormal}}});
  }
  return cases;
}

}  // namespace halftone::conformance
