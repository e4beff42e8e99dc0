// Group norms that read the parts of a concat and hand on their join: which do, what becomes of its
// other readers, and that the numbers stay, bit by bit.
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "compile/compile.h"
#include "compile/graph_testing.h"
#include "reference/reference.h"

namespace halftone::compile {
namespace {

// As the denoiser joins a skip connection: a norm of the whole, and something that reads it as
// well.
constexpr std::string_view kHead = R"(input %0 "x" f16[2,3,4,6] step
input %1 "skip" f16[2,3,4,2] step
weight %2 "g" f16[8]
weight %3 "b" f16[8]
literal %4 "s" f32[1] cdcc4c3d
node "cat" concat{axis=-1} x=%0 x=%1 -> %5 f16[2,3,4,8] step
node "norm" group_norm{groups=2 eps=1e-05 activation=silu} x=%5 gamma=%2 beta=%3 -> %6 f16[2,3,4,8] step
)";
constexpr std::string_view kQuantize =
    "quantize{dtype=i8 bits=8 granularity=per_tensor dynamic=false narrow=false}";

graph::Graph compiled(std::string_view text, const HasKernel& has_kernel = {}) {
  return compiled_by("join_norm_input", text, has_kernel);
}

// The norm's operands and results, printed.
std::string norm_of(const graph::Graph& graph) {
  const std::string text = print(graph);
  const size_t at = text.find("node \"norm\"");
  return text.substr(at, text.find('\n', at) - at);
}

void expect_same_answers(std::string_view text, const graph::Graph& graph) {
  const graph::Graph before = graph::parse(text);
  const Tensors inputs = noise_for(before);
  expect_equal(reference::evaluate(graph, inputs, weights()),
               reference::evaluate(before, inputs, weights()));
  EXPECT_EQ(print(graph::parse(print(graph))), print(graph));
}

TEST(JoinNormInput, ReadsThePartsAlone) {
  const std::string text = std::string(kHead) + "output \"y\" %6\n";
  const graph::Graph graph = compiled(text);
  EXPECT_EQ(count(graph, "concat"), 0U) << print(graph);
  EXPECT_NE(norm_of(graph).find("x=%0 x=%1"), std::string::npos) << norm_of(graph);
  EXPECT_EQ(norm_of(graph).find("joins"), std::string::npos) << norm_of(graph);
  expect_same_answers(text, graph);
}

TEST(JoinNormInput, HandsOnValues) {
  const std::string text =
      std::string(kHead) +
      "node \"sum\" add{broadcast_batch=false} x=%5 x=%6 -> %7 f16[2,3,4,8] step\n"
      "output \"y\" %7\n";
  const graph::Graph graph = compiled(text);
  EXPECT_EQ(count(graph, "concat"), 0U) << print(graph);
  EXPECT_NE(norm_of(graph).find("joins=true"), std::string::npos) << norm_of(graph);
  expect_same_answers(text, graph);
}

TEST(JoinNormInput, HandsOnCodesInPlaceOfTheirQuantization) {
  const std::string text = fmt::format(
      "{}node \"q\" {} x=%5 x_scale=%4 -> %7 i8[2,3,4,8] step\noutput \"y\" %6\noutput \"q\" %7\n",
      kHead, kQuantize);
  const graph::Graph graph = compiled(text);
  EXPECT_EQ(count(graph, "concat") + count(graph, "quantize"), 0U) << print(graph);
  EXPECT_NE(norm_of(graph).find("joined=i8"), std::string::npos) << norm_of(graph);
  expect_same_answers(text, graph);
}

// Its own input has no parts, and may have other readers.
TEST(JoinNormInput, QuantizesWhatItReads) {
  const std::string text = fmt::format(R"(input %0 "x" f16[2,3,4,8] step
weight %1 "g" f16[8]
literal %2 "s" f32[1] cdcc4c3d
node "norm" group_norm{{groups=2 eps=1e-05 activation=silu}} x=%0 gamma=%1 beta=%1 -> %3 f16[2,3,4,8] step
node "q" {} x=%0 x_scale=%2 -> %4 i8[2,3,4,8] step
node "sum" add{{broadcast_batch=false}} x=%0 x=%3 -> %5 f16[2,3,4,8] step
output "y" %5
output "q" %4
)",
                                       kQuantize);
  const graph::Graph graph = compiled(text);
  EXPECT_EQ(count(graph, "quantize"), 0U) << print(graph);
  expect_same_answers(text, graph);
}

// A quantization that a reader of values stands beside stays one: then the values are handed on.
TEST(JoinNormInput, HandsOnValuesToSeveral) {
  const std::string text = fmt::format(
      "{}node \"q\" {} x=%5 x_scale=%4 -> %7 i8[2,3,4,8] step\n"
      "node \"sum\" add{{broadcast_batch=false}} x=%5 x=%6 -> %8 f16[2,3,4,8] step\n"
      "output \"y\" %8\noutput \"q\" %7\n",
      kHead, kQuantize);
  const graph::Graph graph = compiled(text);
  EXPECT_EQ(count(graph, "concat"), 0U) << print(graph);
  EXPECT_EQ(count(graph, "quantize"), 1U) << print(graph);
  expect_same_answers(text, graph);
}

// As a shortcut's convolution does: the norm moves before it.
TEST(JoinNormInput, HandsOnToEarlierReaders) {
  std::string text = fmt::format("{}output \"y\" %6\noutput \"e\" %7\noutput \"q\" %8\n", kHead);
  text.insert(text.find("node \"norm\""),
              "node \"e\" unary{activation=silu} x=%5 -> %7 f16[2,3,4,8] step\n" +
                  fmt::format("node \"q\" {} x=%5 x_scale=%4 -> %8 i8[2,3,4,8] step\n", kQuantize));
  const graph::Graph graph = compiled(text);
  EXPECT_EQ(count(graph, "concat"), 0U) << print(graph);
  EXPECT_NE(norm_of(graph).find("joins=true"), std::string::npos) << norm_of(graph);
  expect_same_answers(text, graph);

  const size_t at = text.find("node \"e\"");
  text.erase(at, text.find('\n', at) + 1 - at);
  text.erase(text.find("output \"e\""), std::string("output \"e\" %7\n").size());
  const graph::Graph codes = compiled(text);
  EXPECT_EQ(count(codes, "concat") + count(codes, "quantize"), 0U) << print(codes);
  expect_same_answers(text, codes);
}

// All skip connections of a denoiser, and the same picture.
TEST(JoinNormInput, ServesADenoiser) {
  const auto checkpoint = tiny_checkpoint();
  graph::Graph separate = tiny_denoiser(*checkpoint, 9);
  graph::Graph joined = separate;
  CompileOptions compile;
  // Statistics are summed in another order.
  compile.has_kernel = [](const graph::OpDesc& desc) {
    return !graph::makes_statistics(desc) && !graph::has_row_statistics(desc);
  };
  run_passes(joined, compile);
  compile.disabled_passes = {"join_norm_input"};
  run_passes(separate, compile);
  const auto num_joining = std::ranges::count_if(joined.nodes(), [](const graph::Node& node) {
    const auto* norm = std::get_if<graph::GroupNorm>(&node.attrs);
    return norm != nullptr && norm->joins;
  });
  EXPECT_GT(num_joining, 0);
  EXPECT_EQ(count(separate, "concat") - count(joined, "concat"), static_cast<size_t>(num_joining));
  const Tensors inputs = noise_for(separate);
  expect_equal(reference::evaluate(joined, inputs, *checkpoint),
               reference::evaluate(separate, inputs, *checkpoint));
}

// Two norms of one join, which is a result of the graph as well.
TEST(JoinNormInput, ServesOneOfTwoNorms) {
  const std::string text = std::string(kHead) +
                           "node \"other\" group_norm{groups=4 eps=1e-05 activation=none} x=%5 "
                           "gamma=%2 beta=%3 -> %7 f16[2,3,4,8] step\n"
                           "output \"y\" %6\noutput \"z\" %7\noutput \"cat\" %5\n";
  const graph::Graph graph = compiled(text);
  EXPECT_EQ(count(graph, "concat"), 0U) << print(graph);
  EXPECT_NE(norm_of(graph).find("joins=true"), std::string::npos) << norm_of(graph);
  expect_same_answers(text, graph);
}

// One norm's result is a part of the next one's join.
TEST(JoinNormInput, ServesNormsInARow) {
  const std::string text =
      std::string(kHead) +
      "weight %7 \"h\" f16[10]\n"
      "node \"cat2\" concat{axis=3} x=%6 x=%1 -> %8 f16[2,3,4,10] step\n"
      "node \"second\" group_norm{groups=2 eps=1e-05 activation=none} x=%8 gamma=%7 beta=%7 -> %9 "
      "f16[2,3,4,10] step\noutput \"y\" %9\noutput \"cat2\" %8\n";
  const graph::Graph graph = compiled(text);
  EXPECT_EQ(count(graph, "concat"), 0U) << print(graph);
  expect_same_answers(text, graph);
}

TEST(JoinNormInput, LeavesDynamicScalesToTheirQuantization) {
  const std::string text = fmt::format(
      "{}node \"q\" quantize{{dtype=i8 bits=8 granularity=per_token dynamic=true narrow=false}} "
      "x=%5 -> %7 i8[2,3,4,8] step %8 f32[24] step\noutput \"y\" %6\noutput \"q\" %7\n",
      kHead);
  const graph::Graph graph = compiled(text);
  EXPECT_EQ(count(graph, "concat"), 0U) << print(graph);
  EXPECT_EQ(count(graph, "quantize"), 1U) << print(graph);
  expect_same_answers(text, graph);
}

TEST(JoinNormInput, LeavesWhatItCannotServe) {
  const std::string sum =
      "node \"sum\" add{broadcast_batch=false} x=%5 x=%6 -> %7 f16[2,3,4,8] step\n"
      "output \"y\" %7\n";
  const std::string text = std::string(kHead) + sum;
  const auto unchanged = [](const std::string& of, const HasKernel& has_kernel = {}) {
    EXPECT_EQ(print(compiled(of, has_kernel)), print(graph::parse(of)));
  };
  // No kernel for it.
  unchanged(text, [](const graph::OpDesc& desc) {
    return std::ranges::count(desc.inputs, graph::Role::kX, &graph::TypedOperand::role) < 2 ||
           !std::holds_alternative<graph::GroupNorm>(desc.attrs);
  });
  // The norm's shift is made behind the concat, and somebody reads the join before that.
  std::string late = text;
  late.insert(late.find("node \"norm\""),
              "node \"e\" unary{activation=silu} x=%5 -> %8 f16[2,3,4,8] step\n"
              "node \"shift\" unary{activation=silu} x=%3 -> %9 f16[8] load\n");
  late.replace(late.find("beta=%3"), 7, "beta=%9");
  unchanged(late + "output \"e\" %8\n");
}

}  // namespace
}  // namespace halftone::compile
