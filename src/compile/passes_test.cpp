#include <gtest/gtest.h>

#include "halftone/error.h"

#include "compile/compile.h"

namespace halftone::compile {
namespace {

constexpr std::string_view kResnet = R"(input %0 "x" f32[1,4,4,32] step
input %1 "t" f32[1,32] schedule
weight %2 "g" f32[32]
weight %3 "b" f32[32]
node "norm" group_norm{groups=32 eps=1e-05 activation=none} x=%0 gamma=%2 beta=%3 -> %4 f32[1,4,4,32] step
node "act" unary{activation=silu} x=%4 -> %5 f32[1,4,4,32] step
weight %6 "w" f32[32,3,3,32]
node "conv" conv2d{stride=1 pad_begin=1 pad_end=1 activation=none} x=%5 weight=%6 -> %7 f32[1,4,4,32] step
node "temb" add{broadcast_batch=false} x=%7 x=%1 -> %8 f32[1,4,4,32] step
node "sum" add{broadcast_batch=false} x=%0 x=%8 -> %9 f32[1,4,4,32] step
output "y" %9
)";

TEST(Passes, FuseAResnetIntoNormAndConv) {
  graph::Graph graph = graph::parse(kResnet);
  run_passes(graph, {});
  ASSERT_EQ(graph.nodes().size(), 2U) << print(graph);
  const std::string text = print(graph);
  EXPECT_NE(text.find("activation=silu"), std::string::npos) << text;
  EXPECT_NE(text.find("row_add="), std::string::npos) << text;
  EXPECT_NE(text.find("residual="), std::string::npos) << text;
}

TEST(Passes, EachCanBeSwitchedOff) {
  for (const Pass& pass : passes()) {
    graph::Graph graph = graph::parse(kResnet);
    run_passes(graph,
               {.disabled_passes = {std::string(pass.name)}, .disabled_kernels = {}, .logger = {}});
    verify(graph);
    if (pass.name == "fuse_epilogue") {
      EXPECT_EQ(graph.nodes().size(), 4U) << print(graph);
    }
  }
}

TEST(Passes, UnknownNameIsRefusedWithTheList) {
  graph::Graph graph = graph::parse(kResnet);
  try {
    run_passes(graph,
               {.disabled_passes = {"fuse_everything"}, .disabled_kernels = {}, .logger = {}});
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::kInvalidArgument);
    EXPECT_NE(std::string(error.what()).find("merge_qkv"), std::string::npos);
  }
}

}  // namespace
}  // namespace halftone::compile
