// What tests of passes share: inputs of a graph, answers compared bit by bit, counted ops.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/rng.h"
#include "compile/compile.h"
#include "graph/graph.h"
#include "io/checkpoint.h"
#include "models/registry.h"
#include "tensor/computed_weights.h"

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

// Weights of any name and shape.
inline ComputedWeights weights() {
  return ComputedWeights([](const std::string& name, size_t i) {
    return static_cast<float>(std::sin(0.7 * static_cast<double>(i * i % 101 + 3 * name.size())));
  });
}

// The graph after one pass alone.
inline graph::Graph compiled_by(std::string_view pass, std::string_view text,
                                const HasKernel& has_kernel = {}) {
  CompileOptions options;
  for (const Pass& other : passes()) {
    if (other.name != pass) options.disabled_passes.emplace(other.name);
  }
  options.has_kernel = has_kernel;
  graph::Graph graph = graph::parse(text);
  run_passes(graph, options);
  return graph;
}

// A denoiser of a few channels with guidance, in f16, and its checkpoint.
inline std::shared_ptr<const io::Checkpoint> tiny_checkpoint() {
  return io::Checkpoint::open(fmt::format("{}/tests/golden/tiny-sdxl", HALFTONE_SOURCE_DIR), {});
}
inline graph::Graph tiny_denoiser(const io::Checkpoint& checkpoint, int64_t text_tokens) {
  const JsonView config = checkpoint.config("unet");
  models::BuildOptions options;
  options.compute_dtype = DType::kF16;
  return models::build(
      "unet", models::class_name_of(config.value()), config,
      {.batch = 1, .height = 8, .width = 8, .text_tokens = text_tokens, .cfg = true}, options);
}

inline const graph::Node& node(const graph::Graph& graph, std::string_view name) {
  for (const graph::Node& node : graph.nodes()) {
    if (node.name == name) return node;
  }
  throw std::out_of_range(std::string(name));
}

inline bool reads(const graph::Graph& graph, std::string_view name, graph::Role role) {
  return std::ranges::any_of(node(graph, name).inputs,
                             [&](const graph::Operand& operand) { return operand.role == role; });
}

// A pass by which what makes a tensor describes it (rewrite.h) in the graph `text`: the makers have
// a further output, the readers read it as `role`, and both sides need a kernel for that.
inline void expect_descriptions(std::string_view pass, std::string_view text, graph::Role role,
                                const std::vector<std::string_view>& makers,
                                const std::vector<std::string_view>& readers) {
  const graph::Graph graph = compiled_by(pass, text);
  for (const std::string_view maker : makers) {
    EXPECT_EQ(node(graph, maker).outputs.size(), 2U) << maker << "\n" << print(graph);
  }
  for (const std::string_view reader : readers) {
    EXPECT_TRUE(reads(graph, reader, role)) << reader << "\n" << print(graph);
  }
  EXPECT_EQ(print(graph::parse(print(graph))), print(graph));
  const std::string before = print(graph::parse(text));
  const auto no_maker = [](const graph::OpDesc& desc) { return !graph::makes_statistics(desc); };
  const auto no_reader = [&](const graph::OpDesc& desc) { return desc.input(role) == nullptr; };
  EXPECT_EQ(print(compiled_by(pass, text, no_maker)), before);
  EXPECT_EQ(print(compiled_by(pass, text, no_reader)), before);
}

inline size_t count(const graph::Graph& graph, std::string_view op) {
  return static_cast<size_t>(std::ranges::count_if(
      graph.nodes(), [&](const graph::Node& node) { return name_of(node.attrs) == op; }));
}

}  // namespace halftone::compile
