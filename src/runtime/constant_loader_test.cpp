// Weights reach memory that the host can write directly, and memory that only upload reaches.
#include <cstring>
#include <set>

#include <gtest/gtest.h>

#include "backend/cpu/cpu_device.h"
#include "backend/forwarding_device.h"
#include "runtime/executor.h"

namespace halftone::runtime {
namespace {

constexpr size_t kCount = 4;
const TensorType kType{DType::kF32, {1, kCount}};

// The CPU behind the rules of another kind of memory: it remembers which addresses are its own and
// what was uploaded there.
class FarDevice final : public backend::ForwardingDevice {
 public:
  explicit FarDevice(bool host_visible)
      : ForwardingDevice(backend::cpu::create_cpu_device({.threads = 1, .disabled_features = {}})),
        info_(ForwardingDevice::info()) {
    info_.name = "far";
    info_.host_visible_memory = host_visible;
  }
  [[nodiscard]] const backend::DeviceInfo& info() const override { return info_; }
  [[nodiscard]] std::unique_ptr<backend::Buffer> allocate(size_t bytes) override {
    auto buffer = ForwardingDevice::allocate(bytes);
    own_.insert(buffer->data());
    return buffer;
  }
  void upload(void* device, const void* host, size_t bytes) override {
    uploaded_.insert(device);
    ForwardingDevice::upload(device, host, bytes);
  }
  [[nodiscard]] bool is_own(const void* address) const { return own_.contains(address); }
  [[nodiscard]] size_t num_uploads() const { return uploaded_.size(); }

 private:
  backend::DeviceInfo info_;
  std::set<const void*> own_, uploaded_;
};

// One weight [1, 2, 3, 4]; remembers whether it was asked to write into the device's memory.
class OneWeight final : public WeightSource {
 public:
  explicit OneWeight(const FarDevice& device) : device_(device) {}
  [[nodiscard]] bool contains(const std::string& name) const override { return name == "m/w"; }
  [[nodiscard]] TensorType type(const std::string&) const override { return kType; }
  void read(const std::string&, const TensorType&, std::byte* dst) const override {
    wrote_device_memory_ = device_.is_own(dst);
    constexpr std::array<float, kCount> kValues = {1, 2, 3, 4};
    std::memcpy(dst, kValues.data(), sizeof(kValues));
  }
  [[nodiscard]] bool wrote_device_memory() const { return wrote_device_memory_; }

 private:
  const FarDevice& device_;
  mutable bool wrote_device_memory_ = false;
};

// y = x + w, with the scalar reference.
std::shared_ptr<const Plan> add_weight_plan() {
  Profile profile;
  Slot x;
  x.name = "x";
  x.type = kType;
  x.storage = Storage::kPersistent;
  x.rate = graph::Rate::kStep;
  x.row_pitch = kCount;
  Slot y = x;
  y.name = "y";
  y.offset = 64;
  Slot w = x;
  w.name = w.weight = "m/w";
  w.storage = Storage::kWeight;
  w.rate = graph::Rate::kLoad;
  profile.slots = {x, w, y};
  Call call;
  call.name = "sum";
  call.kernel = "cpu.add.reference";
  call.attrs = graph::Add{};
  call.inputs = {{graph::Role::kX, 0}, {graph::Role::kX, 1}};
  call.outputs = {2};
  profile.stages[static_cast<size_t>(graph::Rate::kStep)] = {call};
  profile.inputs = {{"x", 0}};
  profile.outputs = {{"y", 2}};
  profile.persistent_bytes = 128;
  auto plan = std::make_shared<Plan>();
  plan->component = "m";
  plan->profiles = {profile};
  return plan;
}

class ConstantLoading : public ::testing::TestWithParam<bool> {};

TEST_P(ConstantLoading, WritesDirectlyOnlyWhereTheHostMay) {
  const bool host_visible = GetParam();
  FarDevice device(host_visible);
  const OneWeight weights(device);
  Executor executor(add_weight_plan(), 0, device, weights);
  EXPECT_EQ(weights.wrote_device_memory(), host_visible);
  EXPECT_EQ(device.num_uploads(), host_visible ? 0U : 1U);

  constexpr std::array<float, kCount> kX = {10, 20, 30, 40};
  executor.set_input("x", Tensor::from(kType.shape, kX));
  executor.run_step();
  const Tensor y = executor.output("y");
  for (size_t i = 0; i < kCount; ++i) {
    EXPECT_EQ(y.values<float>()[i], kX[i] + static_cast<float>(i + 1));
  }
}

std::string memory_name(const ::testing::TestParamInfo<bool>& test) {
  return test.param ? "HostVisible" : "Far";
}
INSTANTIATE_TEST_SUITE_P(Memory, ConstantLoading, ::testing::Bool(), memory_name);

}  // namespace
}  // namespace halftone::runtime
