// Who measures a group norm's input: structure, and the same numbers on the reference.
#include <algorithm>

#include <gtest/gtest.h>

#include "compile/compile.h"
#include "compile/graph_testing.h"
#include "reference/reference.h"

namespace halftone::compile {
namespace {

using graph::Graph;

// A convolution read by a norm, by the codes of another and by a sum; tokens that become an image.
constexpr std::string_view kGraph = R"(input %0 "x" f32[1,256,256,8] step
weight %1 "w" f32[16,3,3,8]
weight %2 "g" f32[16]
weight %3 "b" f32[16]
weight %4 "v" f32[16,16]
literal %5 "s" f32[1] cdcc4c3d
node "conv" conv2d{stride=1 pad_begin=1 pad_end=1 activation=none} x=%0 weight=%1 -> %6 f32[1,256,256,16] step
node "norm" group_norm{groups=4 eps=1e-05 activation=silu} x=%6 gamma=%2 beta=%3 -> %7 f32[1,256,256,16] step
node "codes" group_norm{groups=4 eps=1e-05 activation=none out=i8} x=%6 gamma=%2 beta=%3 y_scale=%5 -> %8 i8[1,256,256,16] step
node "decoded" dequantize{dtype=f32 bits=8 granularity=per_tensor} x=%8 x_scale=%5 -> %9 f32[1,256,256,16] step
node "sum" add{broadcast_batch=false} x=%7 x=%9 -> %10 f32[1,256,256,16] step
node "tokens" reshape{shape=1,65536,16} x=%10 -> %11 f32[1,65536,16] step
node "fc" linear{activation=none geglu=false} x=%11 weight=%4 -> %12 f32[1,65536,16] step
node "image" reshape{shape=1,256,256,16} x=%12 -> %13 f32[1,256,256,16] step
node "last" group_norm{groups=2 eps=1e-05 activation=none} x=%13 gamma=%2 beta=%3 -> %14 f32[1,256,256,16] step
node "out" add{broadcast_batch=false} x=%14 x=%6 -> %15 f32[1,256,256,16] step
output "y" %15
)";

constexpr std::string_view kPass = "group_norm_statistics";
constexpr graph::Role kRole = graph::Role::kGroupStatistics;

TEST(GroupNormStatistics, ComeFromWhatMakesTheInput) {
  expect_descriptions(kPass, kGraph, kRole, {"conv", "fc"}, {"norm", "codes", "last"});
}

TEST(GroupNormStatistics, LeaveTheNumbersAsTheyWere) {
  const Graph graph = graph::parse(kGraph);
  const Tensors inputs = noise_for(graph);
  const Tensors plain = reference::evaluate(graph, inputs, weights());
  const Tensors measured = reference::evaluate(compiled_by(kPass, kGraph), inputs, weights());
  for (size_t i = 0; i < plain.at("y").values<float>().size(); ++i) {
    // A code may fall to the other side: 0.05 of one.
    EXPECT_NEAR(measured.at("y").values<float>()[i], plain.at("y").values<float>()[i], 0.06F) << i;
  }
}

TEST(GroupNormStatistics, AreOfOneNumberOfGroups) {
  std::string text(kGraph);
  const size_t at = text.find("groups=4", text.find("\"codes\""));
  text.replace(at, 8, "groups=2");
  const Graph graph = compiled_by(kPass, text);
  EXPECT_TRUE(reads(graph, "norm", kRole));
  EXPECT_FALSE(reads(graph, "codes", kRole));
}

// What makes one part knows nothing of the join, though the shapes would fit.
TEST(GroupNormStatistics, AreNotThoseOfAPart) {
  constexpr std::string_view kJoined = R"(input %0 "x" f32[1,256,256,8] step
weight %1 "w" f32[8,3,3,8]
weight %2 "g" f32[16]
node "conv" conv2d{stride=1 pad_begin=1 pad_end=1 activation=none} x=%0 weight=%1 -> %3 f32[1,256,256,8] step
node "norm" group_norm{groups=4 eps=1e-05 activation=silu} x=%3 x=%0 gamma=%2 beta=%2 -> %4 f32[1,256,256,16] step
output "y" %4
)";
  EXPECT_EQ(print(compiled_by(kPass, kJoined)), print(graph::parse(kJoined)));
}

// Many small images, which together are more than 32 MiB.
TEST(GroupNormStatistics, AreOfManyImagesToo) {
  constexpr std::string_view kMany = R"(input %0 "x" f32[64,32,32,8] step
weight %1 "w" f32[N,3,3,8]
weight %2 "g" f32[N]
node "conv" conv2d{stride=1 pad_begin=1 pad_end=1 activation=none} x=%0 weight=%1 -> %3 f32[64,32,32,N] step
node "norm" group_norm{groups=4 eps=1e-05 activation=silu} x=%3 gamma=%2 beta=%2 -> %4 f32[64,32,32,N] step
output "y" %4
)";
  const auto of_channels = [&](const std::string& n) {
    std::string text(kMany);
    for (size_t at = 0; (at = text.find('N', at)) != std::string::npos;) text.replace(at, 1, n);
    return reads(compiled_by(kPass, text), "norm", kRole);
  };
  EXPECT_TRUE(of_channels("132"));
  EXPECT_FALSE(of_channels("128"));
}

// Images of rows that are no whole number of pieces or too few, and what has no maker that can
// measure.
TEST(GroupNormStatistics, StayAwayFromTheRest) {
  constexpr std::string_view kOthers = R"(input %0 "x" f32[1,257,257,8] step
weight %1 "w" f32[8,3,3,8]
weight %2 "g" f32[8]
weight %3 "b" f32[8]
node "conv" conv2d{stride=1 pad_begin=1 pad_end=1 activation=none} x=%0 weight=%1 -> %4 f32[1,257,257,8] step
node "ragged" group_norm{groups=4 eps=1e-05 activation=silu} x=%4 gamma=%2 beta=%3 -> %5 f32[1,257,257,8] step
node "again" group_norm{groups=4 eps=1e-05 activation=silu} x=%5 gamma=%2 beta=%3 -> %6 f32[1,257,257,8] step
node "first" group_norm{groups=4 eps=1e-05 activation=silu} x=%0 gamma=%2 beta=%3 -> %7 f32[1,257,257,8] step
input %8 "s" f32[1,64,64,8] step
node "small" conv2d{stride=1 pad_begin=1 pad_end=1 activation=none} x=%8 weight=%1 -> %9 f32[1,64,64,8] step
node "few" group_norm{groups=4 eps=1e-05 activation=silu} x=%9 gamma=%2 beta=%3 -> %10 f32[1,64,64,8] step
output "y" %6
output "z" %7
output "w" %10
)";
  EXPECT_EQ(print(compiled_by(kPass, kOthers)), print(graph::parse(kOthers)));
}

}  // namespace
}  // namespace halftone::compile
