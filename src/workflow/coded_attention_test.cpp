// 8-bit self-attention of a whole denoiser: codes from the layer norm to the output projection.
#include <stdexcept>
#include <tuple>

#include "compile/compile.h"
#include "quant/apply.h"
#include "quant/editor.h"
#include "quant/schemes/scheme.h"
#include "workflow/denoiser_testing.h"

namespace halftone::workflow {
namespace {

using graph::Node;
using graph::Role;
using graph::ValueId;

bool is_self(const std::string& name) { return name.find(".attn1.") != std::string::npos; }

// Scheme, and how the inputs of linears are scaled (quant::SchemeOptions).
class CodedAttention : public DenoiserTest,
                       public testing::WithParamInterface<std::tuple<const char*, const char*>> {
 protected:
  void SetUp() override {
    open("models/emoji-xl");
    quant::SchemeOptions options;
    options.scheme = std::get<0>(GetParam());
    options.static_producers = std::get<1>(GetParam());
    options.attention = "fp8-self";
    record_ = calibrate(model_.weights());
    coded_ = graph_;
    static_cast<void>(
        quant::apply(coded_, quant::make_recipe(options), &record_, model_.weights()));
  }

  // Of what linears read.
  [[nodiscard]] static DType codes_of_linears() {
    return std::string_view(std::get<0>(GetParam())).starts_with("fp8") ? DType::kF8E4M3
                                                                        : DType::kI8;
  }

  quant::CalibrationRecord record_;
  graph::Graph coded_;
};

const Node& maker(const graph::Graph& graph, ValueId value) {
  for (const Node& node : graph.nodes()) {
    if (std::ranges::find(node.outputs, value) != node.outputs.end()) return node;
  }
  throw std::out_of_range(graph.value(value).name);
}

// One linear makes q, k and v, whose slices the attention reads; both end in codes.
void expect_codes_throughout(const graph::Graph& graph, const Node& attention, DType result) {
  SCOPED_TRACE(attention.name);
  const Node& q = maker(graph, quant::operand_of(attention, Role::kQ));
  const ValueId whole = quant::operand_of(q, Role::kX);
  for (const Role role : {Role::kQ, Role::kK, Role::kV}) {
    const Node& slice = maker(graph, quant::operand_of(attention, role));
    ASSERT_TRUE(std::holds_alternative<graph::Slice>(slice.attrs));
    EXPECT_EQ(quant::operand_of(slice, Role::kX), whole);
  }
  const Node& linear = maker(graph, whole);
  ASSERT_TRUE(std::holds_alternative<graph::Linear>(linear.attrs)) << linear.name;
  EXPECT_EQ(graph.type(whole).dtype, DType::kF8E4M3);
  for (const Role role : {Role::kQScale, Role::kKScale, Role::kVScale}) {
    EXPECT_EQ(quant::operand_of(attention, role), quant::operand_of(linear, Role::kYScale));
  }
  EXPECT_NE(quant::operand_of(attention, Role::kYScale), graph::kNoValue);
  EXPECT_EQ(graph.type(attention.outputs[0]).dtype, result);
}

TEST_P(CodedAttention, NothingQuantizesAroundIt) {
  graph::Graph graph = coded_;
  compile::run_passes(graph, {});
  size_t found = 0;
  for (const Node& node : graph.nodes()) {
    if (graph.value(node.outputs[0]).rate != graph::Rate::kStep) continue;
    const bool converts = std::holds_alternative<graph::Quantize>(node.attrs) ||
                          std::holds_alternative<graph::Dequantize>(node.attrs);
    EXPECT_FALSE(converts && is_self(node.name)) << node.name;
    if (!std::holds_alternative<graph::Attention>(node.attrs)) continue;
    if (!is_self(node.name)) {
      EXPECT_FALSE(
          graph::is_quantized(std::get<graph::Attention>(node.attrs), graph.typed_inputs(node)))
          << node.name;
      continue;
    }
    ++found;
    expect_codes_throughout(graph, node, codes_of_linears());
  }
  EXPECT_EQ(found, 17U);
}

// The CPU's kernels read the codes where they lie.
TEST_P(CodedAttention, TheCpuReadsSlicesOfCodes) {
  const auto plan = plan_of_graph(*device_, "unet", coded_, shape_);
  const runtime::Profile& profile = plan->profiles.front();
  size_t found = 0;
  for (const runtime::Call& call : profile.stages[static_cast<size_t>(graph::Rate::kStep)]) {
    if (!std::holds_alternative<graph::Attention>(call.attrs) || !is_self(call.name)) continue;
    ++found;
    EXPECT_FALSE(call.kernel.starts_with("cpu.reference")) << call.kernel;
    EXPECT_EQ(profile.slots[call.outputs.front()].type.dtype, codes_of_linears()) << call.name;
    for (const runtime::CallOperand& operand : call.inputs) {
      if (operand.role != Role::kQ && operand.role != Role::kK && operand.role != Role::kV)
        continue;
      const runtime::Slot& slot = profile.slots[operand.slot];
      EXPECT_EQ(slot.storage, runtime::Storage::kView) << call.name;
      EXPECT_EQ(slot.type.dtype, DType::kF8E4M3) << call.name;
      EXPECT_EQ(slot.row_pitch, 3 * slot.type.shape.row_size()) << call.name;
    }
  }
  EXPECT_EQ(found, 17U);
}

TEST_P(CodedAttention, DrawsWhatThreeLinearsDraw) {
  const WeightSource& weights = model_.weights();
  const std::vector<float> apart = result(coded_, weights, {"merge_qkv"});
  EXPECT_GT(sqnr(apart, result(coded_, weights)), 100);
  EXPECT_GT(sqnr(result(coded_, weights, {"fold_quantize"}), result(coded_, weights)), 35);
  EXPECT_GT(sqnr(result(graph_, weights), result(coded_, weights)), 15);
}

INSTANTIATE_TEST_SUITE_P(Schemes, CodedAttention,
                         testing::Values(std::tuple{"fp8", ""}, std::tuple{"fp8_static", ""},
                                         std::tuple{"int8", "all"}));

}  // namespace
}  // namespace halftone::workflow
