// Who takes the amax of a quantization's input: structure, and the same bits on the reference.
#include <algorithm>

#include <gtest/gtest.h>

#include "compile/compile.h"
#include "compile/graph_testing.h"
#include "reference/reference.h"

namespace halftone::compile {
namespace {

using graph::Graph;

// A gated linear read by two quantizations, of which one makes codes of another type, and by a sum;
// a convolution whose pixels become rows first.
constexpr std::string_view kGraph = R"(input %0 "x" f32[1,70,8] step
weight %1 "w" f32[200,8]
weight %2 "k" f32[24,1,1,8]
node "gated" linear{activation=none geglu=true} x=%0 weight=%1 -> %3 f32[1,70,100] step
node "q" quantize{dtype=f8e4m3 bits=8 granularity=per_tensor dynamic=true narrow=false} x=%3 -> %4 f8e4m3[1,70,100] step %5 f32[1] step
node "dq" dequantize{dtype=f32 bits=8 granularity=per_tensor} x=%4 x_scale=%5 -> %6 f32[1,70,100] step
node "p" quantize{dtype=i8 bits=8 granularity=per_tensor dynamic=true narrow=false} x=%3 -> %7 i8[1,70,100] step %8 f32[1] step
node "dp" dequantize{dtype=f32 bits=8 granularity=per_tensor} x=%7 x_scale=%8 -> %9 f32[1,70,100] step
node "sum" add{broadcast_batch=false} x=%6 x=%9 -> %10 f32[1,70,100] step
node "all" add{broadcast_batch=false} x=%10 x=%3 -> %11 f32[1,70,100] step
node "image" reshape{shape=1,7,10,8} x=%0 -> %12 f32[1,7,10,8] step
node "conv" conv2d{stride=1 pad_begin=0 pad_end=0 activation=none} x=%12 weight=%2 -> %13 f32[1,7,10,24] step
node "tokens" reshape{shape=1,70,24} x=%13 -> %14 f32[1,70,24] step
node "r" quantize{dtype=i8 bits=8 granularity=per_tensor dynamic=true narrow=false} x=%14 -> %15 i8[1,70,24] step %16 f32[1] step
node "dr" dequantize{dtype=f32 bits=8 granularity=per_tensor} x=%15 x_scale=%16 -> %17 f32[1,70,24] step
output "y" %11
output "z" %17
)";

constexpr std::string_view kPass = "epilogue_amax";

TEST(EpilogueAmax, ComesFromWhatMakesTheInput) {
  expect_descriptions(kPass, kGraph, graph::Role::kAmax, {"gated", "conv"}, {"q", "p", "r"});
}

TEST(EpilogueAmax, LeavesTheBitsAsTheyWere) {
  const Graph plain = graph::parse(kGraph);
  const Tensors inputs = noise_for(plain);
  expect_equal(reference::evaluate(compiled_by(kPass, kGraph), inputs, weights()),
               reference::evaluate(plain, inputs, weights()));
}

// Scales that are known, of tokens, behind smoothing; inputs that no product makes, or whose rows
// are others than the product's; products that describe themselves otherwise.
TEST(EpilogueAmax, StaysAwayFromTheRest) {
  constexpr std::string_view kOthers = R"(input %0 "x" f32[1,64,8] step
weight %1 "w" f32[16,8]
weight %2 "g" f32[16]
literal %3 "s" f32[1] cdcc4c3d
node "fc" linear{activation=none geglu=false} x=%0 weight=%1 -> %4 f32[1,64,16] step
node "static" quantize{dtype=i8 bits=8 granularity=per_tensor dynamic=false narrow=false} x=%4 x_scale=%3 -> %5 i8[1,64,16] step
node "token" quantize{dtype=i8 bits=8 granularity=per_token dynamic=true narrow=false} x=%4 -> %6 i8[1,64,16] step %7 f32[64] step
node "smooth" quantize{dtype=i8 bits=8 granularity=per_tensor dynamic=true narrow=false} x=%4 gamma=%2 -> %8 i8[1,64,16] step %9 f32[1] step
node "input" quantize{dtype=i8 bits=8 granularity=per_tensor dynamic=true narrow=false} x=%0 -> %10 i8[1,64,8] step %11 f32[1] step
node "act" unary{activation=silu} x=%4 -> %12 f32[1,64,16] step
node "behind" quantize{dtype=i8 bits=8 granularity=per_tensor dynamic=true narrow=false} x=%12 -> %13 i8[1,64,16] step %14 f32[1] step
node "split" reshape{shape=1,128,8} x=%4 -> %15 f32[1,128,8] step
node "rows" quantize{dtype=i8 bits=8 granularity=per_tensor dynamic=true narrow=false} x=%15 -> %16 i8[1,128,8] step %17 f32[1] step
node "described" linear{activation=none geglu=false statistics_groups=4} x=%0 weight=%1 -> %18 f32[1,64,16] step %19 f32[1,4,1,2] step
node "other" quantize{dtype=i8 bits=8 granularity=per_tensor dynamic=true narrow=false} x=%18 -> %20 i8[1,64,16] step %21 f32[1] step
output "a" %5
output "b" %6
output "c" %8
output "d" %10
output "e" %13
output "f" %16
output "g" %20
output "h" %19
)";
  EXPECT_EQ(print(compiled_by(kPass, kOthers)), print(graph::parse(kOthers)));
}

}  // namespace
}  // namespace halftone::compile
