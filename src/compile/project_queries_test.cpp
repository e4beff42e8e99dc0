// Attentions that compute their queries: which of a network do, what codes become, and that the
// numbers stay.
#include <algorithm>

#include <gtest/gtest.h>

#include "compile/compile.h"
#include "compile/graph_testing.h"
#include "reference/reference.h"

namespace halftone::compile {
namespace {

constexpr int64_t kTextTokens = 9;

bool projects(const graph::Graph& graph, const graph::Node& node) {
  return std::holds_alternative<graph::Attention>(node.attrs) &&
         graph::projects_queries(graph.typed_inputs(node));
}

size_t num_projecting(const graph::Graph& graph) {
  return static_cast<size_t>(std::ranges::count_if(
      graph.nodes(), [&](const graph::Node& node) { return projects(graph, node); }));
}

// A device whose kernels have room for the keys of a text and know no row statistics.
bool takes(const graph::OpDesc& desc) {
  if (graph::has_row_statistics(desc)) return false;
  return !graph::projects_queries(desc) || desc.input(graph::Role::kK)->shape[1] <= kTextTokens;
}

graph::Graph compiled(graph::Graph graph, std::set<std::string> disabled) {
  CompileOptions options;
  options.disabled_passes = std::move(disabled);
  options.has_kernel = takes;
  run_passes(graph, options);
  return graph;
}

// Every attention to the text, and none of an image to itself.
TEST(ProjectedQueries, AreThoseOfTheText) {
  const auto checkpoint = tiny_checkpoint();
  const graph::Graph built = tiny_denoiser(*checkpoint, kTextTokens);
  const graph::Graph fused = compiled(built, {});
  const graph::Graph separate = compiled(built, {"project_queries"});
  EXPECT_EQ(num_projecting(separate), 0U);
  EXPECT_GT(num_projecting(fused), 0U);
  EXPECT_EQ(count(separate, "linear") - count(fused, "linear"), num_projecting(fused));
  for (const graph::Node& node : fused.nodes()) {
    if (!std::holds_alternative<graph::Attention>(node.attrs)) continue;
    EXPECT_EQ(projects(fused, node), node.name.find("attn2") != std::string::npos) << node.name;
  }
  const Tensors inputs = noise_for(built);
  expect_equal(reference::evaluate(fused, inputs, *checkpoint),
               reference::evaluate(separate, inputs, *checkpoint));
}

// norm -> codes -> queries, an attention that ends in codes: all of it in one op.
constexpr std::string_view kCodes = R"(input %0 "x" f16[2,3,8] step
input %1 "c" f16[2,5,8] prompt
weight %2 "g" f16[8]
weight %3 "shift" f16[8]
node "norm" layer_norm{eps=1e-05} x=%0 gamma=%2 beta=%3 -> %4 f16[2,3,8] step
node "nq" quantize{dtype=i8 bits=8 granularity=per_token dynamic=true narrow=false} x=%4 -> %5 i8[2,3,8] step %6 f32[6] step
node "nd" dequantize{dtype=f16 bits=8 granularity=per_token} x=%5 x_scale=%6 -> %7 f16[2,3,8] step
weight %8 "wt" f16[8,8]
node "wq" quantize{dtype=i8 bits=8 granularity=per_channel dynamic=true narrow=true} x=%8 -> %9 i8[8,8] load %10 f32[8] load
node "wd" dequantize{dtype=f16 bits=8 granularity=per_channel} x=%9 x_scale=%10 -> %11 f16[8,8] load
node "a.q" linear{activation=none geglu=false} x=%7 weight=%11 -> %12 f16[2,3,8] step
node "a" attention{heads=2 scale=0.5 causal=false} q=%12 k=%1 v=%1 -> %13 f16[2,3,8] step
literal %14 "s" f32[1] cdcc4c3d
node "aq" quantize{dtype=i8 bits=8 granularity=per_tensor dynamic=false narrow=false} x=%13 x_scale=%14 -> %15 i8[2,3,8] step
output "y" %15
)";

TEST(ProjectedQueries, OfCodesToCodes) {
  const graph::Graph fused = compiled(graph::parse(kCodes), {});
  ASSERT_EQ(num_projecting(fused), 1U) << print(fused);
  EXPECT_EQ(count(fused, "linear"), 0U);
  for (const graph::Node& node : fused.nodes()) {
    if (!projects(fused, node)) continue;
    const auto in = fused.typed_inputs(node);
    EXPECT_EQ(to_string(*find_operand(in, graph::Role::kX)), "i8[2,3,8]");
    EXPECT_EQ(to_string(*find_operand(in, graph::Role::kXScale)), "f32[6]");
    EXPECT_NE(find_operand(in, graph::Role::kYScale), nullptr);
    EXPECT_EQ(fused.type(node.outputs[0]).dtype, DType::kI8);
  }
  const Tensors inputs = noise_for(fused);
  const graph::Graph separate = compiled(graph::parse(kCodes), {"project_queries"});
  expect_equal(reference::evaluate(fused, inputs, weights()),
               reference::evaluate(separate, inputs, weights()));
}

// A linear that reads row statistics is left alone.
TEST(ProjectedQueries, OfAFoldedNormStayALinear) {
  CompileOptions options;
  options.has_kernel = [](const graph::OpDesc& /*desc*/) { return true; };
  graph::Graph graph = graph::parse(R"(input %0 "x" f16[2,3,8] step
input %1 "c" f16[2,5,8] prompt
weight %2 "w" f16[8,8]
weight %3 "g" f16[8]
weight %4 "b" f16[8]
node "in" linear{activation=none geglu=false} x=%0 weight=%2 -> %5 f16[2,3,8] step
node "norm" layer_norm{eps=1e-05} x=%5 gamma=%3 beta=%4 -> %6 f16[2,3,8] step
node "a.q" linear{activation=none geglu=false} x=%6 weight=%2 -> %7 f16[2,3,8] step
node "a" attention{heads=2 scale=0.5 causal=false} q=%7 k=%1 v=%1 -> %8 f16[2,3,8] step
output "y" %8
)");
  run_passes(graph, options);
  EXPECT_EQ(count(graph, "layer_norm"), 0U) << print(graph);
  EXPECT_EQ(num_projecting(graph), 0U) << print(graph);
}

}  // namespace
}  // namespace halftone::compile
