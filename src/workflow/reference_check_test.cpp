// --reference-check and --low-vram on whole runs of a tiny model.
#include "workflow/reference_check.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "backend/cpu/cpu_device.h"
#include "backend/forwarding_device.h"
#include "backend/metered_device.h"
#include "reference/reference.h"
#include "workflow/generator.h"

namespace halftone::workflow {
namespace {

using backend::Device;

const backend::Kernel* right_kernel = nullptr;

// A layer norm whose first value is off by one.
std::unique_ptr<backend::Launch> prepare_wrong(const graph::OpDesc& desc,
                                               const backend::DeviceInfo& info,
                                               backend::Config config,
                                               const backend::Operands& operands) {
  class Wrong final : public backend::Launch {
   public:
    Wrong(std::unique_ptr<backend::Launch> right, float* y) : right_(std::move(right)), y_(y) {}
    void enqueue(backend::Stream& stream) const override {
      right_->enqueue(stream);
      *y_ += 1.0F;
    }

   private:
    std::unique_ptr<backend::Launch> right_;
    float* y_;
  };
  return std::make_unique<Wrong>(right_kernel->prepare(desc, info, config, operands),
                                 operands.outputs[0].as<float>());
}

// The CPU with that kernel in the place of its own.
class WrongDevice final : public backend::ForwardingDevice {
 public:
  WrongDevice()
      : ForwardingDevice(backend::cpu::create_cpu_device({.threads = 1, .disabled_features = {}})) {
    const auto own = ForwardingDevice::kernels();
    kernels_.assign(own.begin(), own.end());
    const auto at = std::ranges::find(kernels_, graph::OpKind::kLayerNorm, &backend::Kernel::op);
    right_kernel = *at;
    wrong_ = **at;
    wrong_.name = "test.layer_norm.wrong";
    wrong_.prepare = prepare_wrong;
    *at = &wrong_;
  }
  [[nodiscard]] std::span<const backend::Kernel* const> kernels() const override {
    return kernels_;
  }

 private:
  std::vector<const backend::Kernel*> kernels_;
  backend::Kernel wrong_{};
};

SessionOptions session() {
  SessionOptions options;
  options.model.model = std::string(HALFTONE_SOURCE_DIR) + "/tests/golden/tiny-sdxl";
  options.precision = Precision::kF32;
  return options;
}

GenerateOptions request() {
  GenerateOptions options;
  options.prompt = "a cat";
  options.width = 32;
  options.height = 32;
  options.steps = 2;
  options.seed = 5;
  return options;
}

GenerateReport run(Device& device, SessionOptions options, std::vector<uint8_t>* rgb = nullptr) {
  Generator generator(device, std::move(options));
  return generator.generate(request(), [&](Image&& image) {
    if (rgb != nullptr) *rgb = std::move(image.rgb);
  });
}

std::unique_ptr<Device> cpu(uint64_t limit = 0) {
  return backend::meter(backend::cpu::create_cpu_device({.threads = 1, .disabled_features = {}}),
                        limit);
}

TEST(ReferenceCheck, EveryNodeOfARightDeviceIsWithinItsLimit) {
  SessionOptions options = session();
  options.reference_check = true;
  const auto device = cpu();
  std::vector<uint8_t> checked, plain;
  const GenerateReport report = run(*device, options, &checked);
  ASSERT_GT(report.checks.size(), 100U);
  for (const NodeCheck& check : report.checks) {
    EXPECT_TRUE(check.ok) << check.node << " " << check.kernel << " " << check.relative_l2;
  }
  const auto has = [&](const char* component) {
    return std::ranges::any_of(report.checks,
                               [&](const NodeCheck& c) { return c.component == component; });
  };
  for (const char* component : {"text_encoder", "text_encoder_2", "unet", "vae_decoder"}) {
    EXPECT_TRUE(has(component)) << component;
  }
  run(*device, session(), &plain);
  EXPECT_EQ(checked, plain);
}

// Which part of a line has its amax is the kernel's choice.
TEST(ReferenceCheck, AmaxCountsLineByLine) {
  graph::Linear op;
  op.amax = true;
  const std::vector<graph::TypedOperand> in = {{graph::Role::kX, {DType::kF32, {70, 8}}},
                                               {graph::Role::kWeight, {DType::kF32, {100, 8}}}};
  const graph::OpAttrs attrs = op;
  const std::vector<graph::TypedOperand> out = graph::infer_outputs(attrs, in);
  ASSERT_EQ(out[1].type.shape, (Shape{2, 2}));
  const graph::OpDesc desc{attrs, in, out};
  std::vector<Tensor> tensors;
  for (const auto& operands : {in, out}) {
    for (const graph::TypedOperand& operand : operands) {
      tensors.emplace_back(operand.type);
      float next = 0.5F;
      for (float& v : tensors.back().values<float>()) v = next = -0.97F * next + 0.01F;
    }
  }
  const std::vector<TensorView> inputs = {tensors[0].view(), tensors[1].view()};
  const std::vector<TensorView> outputs = {tensors[2].view(), tensors[3].view()};
  reference::run_op(desc, inputs, outputs);
  runtime::Call call;
  call.attrs = attrs;
  const auto is_right = [&] {
    ReferenceCheck check;
    check.add("unet", {call, desc, inputs, outputs});
    return check.worst_first().front().ok;
  };
  const auto amax = tensors[3].values<float>();
  EXPECT_TRUE(is_right());
  std::swap(amax[0], amax[1]);
  amax[3] = amax[2];
  EXPECT_TRUE(is_right());
  std::swap(amax[0], amax[2]);
  std::swap(amax[1], amax[3]);
  EXPECT_FALSE(is_right());
}

TEST(ReferenceCheck, AWrongKernelComesFirstByName) {
  SessionOptions options = session();
  options.reference_check = true;
  WrongDevice device;
  const GenerateReport report = run(device, options);
  ASSERT_FALSE(report.checks.empty());
  EXPECT_FALSE(report.checks.front().ok);
  EXPECT_NEAR(report.checks.front().max_abs, 1.0, 1e-3);
  for (const NodeCheck& check : report.checks) {
    EXPECT_EQ(check.ok, check.kernel != "test.layer_norm.wrong") << check.node;
  }
}

TEST(LowVram, SamePictureFromLessMemory) {
  const auto usual = cpu();
  std::vector<uint8_t> at_once, in_turn;
  const GenerateReport first = run(*usual, session(), &at_once);
  SessionOptions options = session();
  options.low_vram = true;
  const auto small = cpu();
  const GenerateReport second = run(*small, options, &in_turn);
  EXPECT_EQ(at_once, in_turn);
  EXPECT_LT(second.memory.device_peak_bytes, first.memory.device_peak_bytes);
  EXPECT_LT(second.memory.static_bytes, first.memory.static_bytes);
  ASSERT_EQ(second.component_memory.size(), first.component_memory.size());
  for (size_t i = 0; i < first.component_memory.size(); ++i) {
    EXPECT_EQ(second.component_memory[i].static_bytes, first.component_memory[i].static_bytes);
  }

  // A device between the two draws it in turn and refuses to hold everything.
  const uint64_t between = (first.memory.device_peak_bytes + second.memory.device_peak_bytes) / 2;
  std::vector<uint8_t> limited;
  run(*cpu(between), options, &limited);
  EXPECT_EQ(limited, at_once);
  try {
    run(*cpu(between), session());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::kOutOfMemory);
    EXPECT_NE(std::string(error.what()).find("--low-vram"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace halftone::workflow
