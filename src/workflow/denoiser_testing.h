// What tests of a whole denoiser on the CPU share: a step on inputs that are the same each time.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "backend/cpu/cpu_device.h"
#include "base/rng.h"
#include "quant/observer.h"
#include "quant/taps.h"
#include "runtime/executor.h"
#include "workflow/graph_plan.h"
#include "workflow/plans.h"

namespace halftone::workflow {

// A model's denoiser in fp32 for images of 8 x 8 latents.
class DenoiserTest : public ::testing::Test {
 protected:
  // `model`: a folder in the source tree.
  void open(const std::string& model) {
    device_ = backend::cpu::create_cpu_device({.threads = 1, .disabled_features = {}});
    ModelOptions options;
    options.model = std::string(HALFTONE_SOURCE_DIR) + "/" + model;
    model_ = open_model(options, "", {});
    PlanOptions plain;
    plain.precision = Precision::kF32;
    graph_ = PlanMaker(model_, *device_, plain).graph("unet", shape_);
  }

  // A step on inputs that are the same each time.
  [[nodiscard]] runtime::Executor run(const graph::Graph& graph, const WeightSource& weights,
                                      const std::set<std::string>& disabled = {}) const {
    runtime::Executor executor(plan_of_graph(*device_, "unet", graph, shape_, disabled), 0,
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

  const pipeline::ShapeKey shape_ = {
      {"batch", 1}, {"height", 8}, {"width", 8}, {"text_tokens", 77}, {"cfg", 1}};
  std::unique_ptr<backend::Device> device_;
  Model model_;
  graph::Graph graph_;
};

inline double sqnr(const std::vector<float>& wanted, const std::vector<float>& got) {
  double signal = 0, noise = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    signal += std::pow(static_cast<double>(wanted[i]), 2);
    noise += std::pow(static_cast<double>(wanted[i]) - static_cast<double>(got[i]), 2);
  }
  return 10 * std::log10(signal / std::max(noise, 1e-30));
}

}  // namespace halftone::workflow
