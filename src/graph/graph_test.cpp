#include "graph/graph.h"

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "tensor/step_coefficients.h"

namespace halftone::graph {
namespace {

Graph sample_graph() {
  Graph g;
  const ValueId x = g.add_input("x", {DType::kF32, {2, 4, 4, 8}}, Rate::kStep);
  const ValueId t = g.add_input("t", {DType::kF32, {2, 8}}, Rate::kSchedule);
  const ValueId w = g.add_weight("unet/conv.weight", {DType::kF32, {16, 8, 3, 3}});
  const ValueId hwio = g.add_node(Transpose{{0, 2, 3, 1}}, {{Role::kX, w}}, "conv.layout");
  const ValueId lw = g.add_weight("unet/time \"quoted\\\".weight", {DType::kF32, {16, 8}});
  const ValueId row = g.add_node(Linear{}, {{Role::kX, t}, {Role::kWeight, lw}}, "time");
  const ValueId y =
      g.add_node(Conv2d{2, 1, 1, Activation::kSilu},
                 {{Role::kX, x}, {Role::kWeight, hwio}, {Role::kRowAdd, row}}, "conv");
  const ValueId bias = g.add_literal("shift", Tensor::from({2, 16}, std::vector<float>(32, 0.5F)));
  g.add_output("y", g.add_node(Add{}, {{Role::kX, y}, {Role::kX, bias}}, "add"));
  return g;
}

TEST(Graph, InfersTypesAndRates) {
  const Graph g = sample_graph();
  verify(g);
  EXPECT_EQ(to_string(g.type(g.outputs()[0].value)), "f32[2,2,2,16]");
  EXPECT_EQ(g.value(g.nodes()[0].outputs[0]).rate, Rate::kLoad);
  EXPECT_EQ(g.value(g.nodes()[1].outputs[0]).rate, Rate::kSchedule);
  EXPECT_EQ(g.value(g.nodes()[2].outputs[0]).rate, Rate::kStep);
}

TEST(Graph, TextRoundTrips) {
  const std::string text = print(sample_graph());
  const Graph again = parse(text);
  verify(again);
  EXPECT_EQ(print(again), text);
  EXPECT_NE(text.find("conv2d{stride=2 pad_begin=1 pad_end=1 activation=silu}"), std::string::npos);
}

TEST(Graph, RefusesOperandsThatDoNotFit) {
  Graph g;
  const ValueId x = g.add_input("x", {DType::kF32, {2, 7}}, Rate::kStep);
  const ValueId w = g.add_weight("w", {DType::kF32, {16, 8}});
  try {
    g.add_node(Linear{}, {{Role::kX, x}, {Role::kWeight, w}}, "blocks.0.proj");
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::kInvalidArgument);
    EXPECT_NE(std::string(error.what()).find("blocks.0.proj"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("f32[2,7]"), std::string::npos) << error.what();
  }
}

// A window that lies in the padding alone: libraries read what is not there.
TEST(Graph, RefusesPaddingThatFillsAWindow) {
  const auto types = [](int64_t begin, int64_t end) {
    const TypedOperand in[] = {{Role::kX, {DType::kF32, {1, 20, 7, 3}}},
                               {Role::kWeight, {DType::kF32, {8, 2, 3, 3}}}};
    return infer_types(Conv2d{3, begin, end}, in);
  };
  EXPECT_EQ(to_string(types(1, 1)[0]), "f32[1,7,3,8]");
  EXPECT_THROW((void)types(1, 2), Error);
  EXPECT_THROW((void)types(2, 0), Error);
}

// What a kernel would read outside of its operand.
TEST(Graph, RefusesElementsOfNothing) {
  const auto refused = [](const OpAttrs& attrs, const Shape& x) {
    const TypedOperand in[] = {{Role::kX, {DType::kF32, x}}};
    EXPECT_THROW((void)infer_types(attrs, in), Error) << name_of(attrs) << to_string(x);
  };
  refused(Upsample{16, 13}, {3, 0, 2, 8});
  refused(Upsample{16, 13}, {3, 2, 0, 8});
  refused(Transpose{{}}, Shape());
  refused(LayerNorm{}, Shape());
  refused(Reduce{Reduction::kMax, Granularity::kPerTensor}, Shape());
}

TEST(Graph, VerifyFindsUseBeforeDefinition) {
  Graph g = sample_graph();
  std::vector<Node> nodes = g.nodes();
  std::swap(nodes[0], nodes[2]);
  g.set_nodes(std::move(nodes));
  EXPECT_THROW(verify(g), Error);
}

struct BadText {
  const char* text;
  const char* message;
};

TEST(Graph, ParseNamesLineAndReason) {
  const BadText cases[] = {
      {"nonsense", "unknown line kind"},
      {"input %0 \"x\" f32[2,3]", "ends too early"},
      {"input %0 \"x\" f99[2,3] step", "unknown element type"},
      {"input %0 \"x f32[2,3] step", "does not end"},
      {"input %0 \"x\" f32[2,3] step\ninput %0 \"y\" f32[2,3] step", "defined twice"},
      {"node \"n\" unary{activation=silu} x=%7 -> %1 f32[2] step", "%7 is not defined"},
      {"input %0 \"x\" f32[2] step\nnode \"n\" unary{} x=%0 -> %1 f32[2] step", "is missing"},
      {"input %0 \"x\" f32[2] step\nnode \"n\" unary{activation=relu} x=%0 -> %1 f32[2] step",
       "unknown activation"},
      {"input %0 \"x\" f32[2] step\nnode \"n\" unary{activation=silu} x=%0 -> %1 f32[3] step",
       "not the inferred one"},
      {"literal %0 \"x\" f32[1] 00", "do not fit"},
      {"input %0 \"x\" f32[-2] step", "malformed shape"},
  };
  for (const BadText& c : cases) {
    try {
      (void)parse(c.text);
      FAIL() << "accepted: " << c.text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::kCorruptFile) << c.text;
      EXPECT_NE(std::string(error.what()).find(c.message), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find("line "), std::string::npos) << error.what();
    }
  }
}

TEST(Ops, AttributesRoundTripForEveryOp) {
  const OpAttrs all[] = {
#define HALFTONE_OP(Name) Name{},
#include "graph/ops/ops.inc"
#undef HALFTONE_OP
  };
  for (const OpAttrs& attrs : all) EXPECT_EQ(parse_attrs(print_attrs(attrs)), attrs);
  const OpAttrs odd = Affine{0.1, -3.25e-300, -1.0, 1e300};
  EXPECT_EQ(parse_attrs(print_attrs(odd)), odd);
}

}  // namespace
}  // namespace halftone::graph
