// Shortcuts in halves in a whole denoiser on the CPU: the tiny SDXL's three up blocks of three.
#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "backend/cpu/cpu_device.h"
#include "base/rng.h"
#include "quant/apply.h"
#include "quant/schemes/scheme.h"
#include "quant/split.h"
#include "quant/taps.h"
#include "runtime/executor.h"
#include "workflow/graph_plan.h"
#include "workflow/plans.h"

namespace halftone::workflow {
namespace {

const pipeline::ShapeKey kShape = {
    {"batch", 1}, {"height", 8}, {"width", 8}, {"text_tokens", 77}, {"cfg", 1}};
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

class SplitShortcut : public ::testing::Test {
 protected:
  void SetUp() override {
    device_ = backend::cpu::create_cpu_device({.threads = 1, .disabled_features = {}});
    ModelOptions options;
    options.model = std::string(HALFTONE_SOURCE_DIR) + "/tests/golden/tiny-sdxl";
    model_ = open_model(options, "", {});
    PlanOptions plain;
    plain.precision = Precision::kF32;
    graph_ = PlanMaker(model_, *device_, plain).graph("unet", kShape);
  }

  // A step on inputs that are the same each time.
  [[nodiscard]] runtime::Executor run(const graph::Graph& graph, const WeightSource& weights,
                                      const std::set<std::string>& disabled = {}) const {
    runtime::Executor executor(plan_of_graph(*device_, "unet", graph, kShape, disabled), 0,
                               *device_, weights);
    NoiseGenerator noise = NoiseGenerator::torch_cpu(3);
    for (const graph::Value& value : graph.values()) {
      if (!value.is_input) continue;
      Tensor filled({DType::kF32, value.type.shape});
      noise.randn(filled.values<float>());
      executor.set_input(value.name, filled.to(value.type.dtype));
    }
    executor.run_prompt();
    executor.run_schedule(0);
    executor.run_step(0);
    return executor;
  }

  [[nodiscard]] std::vector<float> result(const graph::Graph& graph, const WeightSource& weights,
                                          const std::set<std::string>& disabled = {}) const {
    const Tensor tensor = run(graph, weights, disabled).output(graph_.outputs().front().name);
    return {tensor.values<float>().begin(), tensor.values<float>().end()};
  }

  [[nodiscard]] quant::CalibrationRecord calibrate(const WeightSource& weights) const {
    graph::Graph graph = graph_;
    const auto taps = quant::insert_taps(graph);
    const runtime::Executor executor = run(graph, weights);
    quant::CalibrationRecord record;
    quant::Recorder recorder(record, taps, 1);
    recorder.observe([&](const std::string& name) { return executor.output(name); }, 0);
    record.samples = 1;
    return record;
  }

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

  std::unique_ptr<backend::Device> device_;
  Model model_;
  graph::Graph graph_;
};

double sqnr(const std::vector<float>& wanted, const std::vector<float>& got) {
  double signal = 0, noise = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    signal += std::pow(static_cast<double>(wanted[i]), 2);
    noise += std::pow(static_cast<double>(wanted[i]) - static_cast<double>(got[i]), 2);
  }
  return 10 * std::log10(signal / std::max(noise, 1e-30));
}

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
  const auto plan = plan_of_graph(*device_, "unet", graph, kShape);
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
