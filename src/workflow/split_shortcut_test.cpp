// Shortcuts in halves in a whole denoiser on the CPU: the tiny SDXL's three up blocks of three.
#include "quant/apply.h"
#include "quant/schemes/scheme.h"
#include "quant/split.h"
#include "workflow/denoiser_testing.h"

namespace halftone::workflow {
namespace {

constexpr const char* kShortcut = "up_blocks.0.resnets.0.conv_shortcut";

// A checkpoint with one tensor made larger.
class Louder final : public WeightSource {
 public:
  Louder(const WeightSource& from, std::string name, float factor)
      : from_(from), name_(std::move(name)), factor_(factor) {}
  [[nodiscard]] bool contains(const std::string& name) const override {
    return from_.contains(name);
  }
  [[nodiscard]] TensorType type(const std::string& name) const override { return from_.type(name); }
  void read(const std::string& name, const TensorType& type, std::byte* dst) const override {
    if (name != name_) return from_.read(name, type, dst);
    Tensor values({DType::kF32, type.shape});
    from_.read(name, values.type(), values.data());
    for (float& v : values.values<float>()) v *= factor_;
    convert(values.data(), DType::kF32, dst, type.dtype,
            static_cast<size_t>(type.shape.num_elements()));
  }

 private:
  const WeightSource& from_;
  std::string name_;
  float factor_;
};

class SplitShortcut : public DenoiserTest {
 protected:
  void SetUp() override { open("tests/golden/tiny-sdxl"); }

  // Static int8 for the first shortcut alone.
  [[nodiscard]] graph::Graph quantized(bool split, const quant::CalibrationRecord& record,
                                       const WeightSource& weights) const {
    quant::SchemeOptions options;
    options.policy = "none";
    options.level = 1;
    options.split_shortcut = split;
    quant::Recipe recipe = quant::make_recipe(options);
    recipe.rules.front().pattern = kShortcut;
    graph::Graph graph = graph_;
    static_cast<void>(quant::apply(graph, recipe, &record, weights));
    return graph;
  }
};

TEST_F(SplitShortcut, OnlyUpBlocksHaveOneAndItComputesTheSame) {
  quant::SchemeOptions options;
  options.policy = "none";
  options.split_shortcut = true;
  graph::Graph graph = graph_;
  quant::split_shortcuts(graph, quant::make_recipe(options), nullptr);
  int halves = 0;
  for (const graph::Node& node : graph.nodes()) {
    if (quant::shortcut_of(node.name).empty()) continue;
    EXPECT_TRUE(node.name.starts_with("up_blocks.")) << node.name;
    ++halves;
  }
  EXPECT_EQ(halves, 9);
  EXPECT_GT(sqnr(result(graph_, model_.weights()), result(graph, model_.weights())), 100);
}

// The middle block's last convolution makes what comes from below, and not the skip connection.
TEST_F(SplitShortcut, ALoudHalfCostsTheOtherNothing) {
  const Louder weights(model_.weights(), "unet/mid_block.resnets.1.conv2.weight", 100);
  const quant::CalibrationRecord record = calibrate(weights);
  const float first = record.find(quant::first_input(kShortcut))->max[0];
  EXPECT_GT(first, 10 * record.find(quant::second_half(kShortcut))->max[0]);
  const std::vector<float> wanted = result(graph_, weights);
  const double whole = sqnr(wanted, result(quantized(false, record, weights), weights));
  const double split = sqnr(wanted, result(quantized(true, record, weights), weights));
  EXPECT_GT(split, whole + 1);
}

TEST_F(SplitShortcut, RunsInIntegersAsItIsSimulated) {
  const WeightSource& weights = model_.weights();
  const quant::CalibrationRecord record = calibrate(weights);
  const graph::Graph graph = quantized(true, record, weights);
  const auto plan = plan_of_graph(*device_, "unet", graph, shape_);
  const runtime::Profile& profile = plan->profiles.front();
  int halves = 0;
  for (const runtime::Call& call : profile.stages[static_cast<size_t>(graph::Rate::kStep)]) {
    if (!call.name.starts_with(kShortcut) || !std::holds_alternative<graph::Conv2d>(call.attrs)) {
      continue;
    }
    ++halves;
    EXPECT_EQ(profile.slots[call.inputs.front().slot].type.dtype, DType::kI8) << call.name;
    EXPECT_FALSE(call.kernel.starts_with("cpu.reference")) << call.kernel;
  }
  EXPECT_EQ(halves, 2);
  EXPECT_GT(sqnr(result(graph, weights, {"fold_quantize"}), result(graph, weights)), 100);
}

}  // namespace
}  // namespace halftone::workflow
