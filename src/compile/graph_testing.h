// What tests of passes share: inputs of a graph, answers compared bit by bit, counted ops.
#pragma once

#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "base/rng.h"
#include "graph/graph.h"

namespace halftone::compile {

using Tensors = std::map<std::string, Tensor>;

// Standard normal values for every input, the same each time.
inline Tensors noise_for(const graph::Graph& graph) {
  Tensors inputs;
  NoiseGenerator noise = NoiseGenerator::torch_cpu(11);
  for (const graph::Value& value : graph.values()) {
    if (!value.is_input) continue;
    Tensor filled({DType::kF32, value.type.shape});
    noise.randn(filled.values<float>());
    inputs[value.name] = filled.to(value.type.dtype);
  }
  return inputs;
}

inline void expect_equal(const Tensors& got, const Tensors& wanted) {
  ASSERT_EQ(got.size(), wanted.size());
  for (const auto& [name, tensor] : wanted) {
    const Tensor& other = got.at(name);
    ASSERT_EQ(other.type(), tensor.type()) << name;
    EXPECT_EQ(std::memcmp(other.data(), tensor.data(), tensor.type().num_bytes()), 0) << name;
  }
}

inline size_t count(const graph::Graph& graph, std::string_view op) {
  return static_cast<size_t>(std::ranges::count_if(
      graph.nodes(), [&](const graph::Node& node) { return name_of(node.attrs) == op; }));
}

}  // namespace halftone::compile
