// Plans on disk: a real plan, damaged in every way that a reader must notice.
#include "runtime/plan_file.h"

#include <functional>

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "backend/cpu/cpu_device.h"
#include "workflow/plans.h"

namespace halftone::workflow {
namespace {

class PlanFile : public ::testing::Test {
 protected:
  void SetUp() override {
    device_ = backend::cpu::create_cpu_device({.threads = 1, .disabled_features = {}});
    ModelOptions options;
    options.model = std::string(HALFTONE_SOURCE_DIR) + "/tests/golden/tiny-sd15";
    model_ = open_model(options, "", {});
    const PlanMaker maker(model_, *device_,
                          {.precision = Precision::kF32,
                           .vae_precision = Precision::kF32,
                           .cache_dir = {},
                           .plan = {},
                           .logger = {}});
    plan_ = maker
                .get("unet",
                     {{"batch", 1}, {"height", 8}, {"width", 8}, {"text_tokens", 77}, {"cfg", 1}})
                .plan;
    bytes_ = runtime::serialize(*plan_);
  }

  static Errc error_of(std::span<const std::byte> bytes) {
    try {
      static_cast<void>(runtime::deserialize(bytes, "test.plan"));
    } catch (const Error& error) {
      EXPECT_EQ(std::string(error.what()).rfind("test.plan: ", 0), 0U) << error.what();
      return error.code();
    }
    ADD_FAILURE() << "was accepted";
    return Errc::kInternal;
  }

  // A copy with something wrong in its meaning must not pass.
  void refuse(const char* what, const std::function<void(runtime::Profile&)>& change) const {
    runtime::Plan plan = *plan_;
    change(plan.profiles.front());
    try {
      runtime::check_plan(plan, "test.plan");
      ADD_FAILURE() << what << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::kCorruptFile) << what;
    }
  }

  std::unique_ptr<backend::Device> device_;
  Model model_;
  std::shared_ptr<const runtime::Plan> plan_;
  std::vector<std::byte> bytes_;
};

TEST_F(PlanFile, RoundTripKeepsEveryByte) {
  const runtime::Plan again = runtime::deserialize(bytes_, "test.plan");
  EXPECT_EQ(runtime::serialize(again), bytes_);
  EXPECT_EQ(again.fingerprint.hash(), plan_->fingerprint.hash());
  EXPECT_EQ(again.metadata, plan_->metadata);
}

TEST_F(PlanFile, EveryDamagedHeaderByteAndSampledBodyBytesAreNoticed) {
  constexpr size_t kHeaderBytes = 200;
  for (size_t i = 0; i < bytes_.size(); i += i < kHeaderBytes ? 1 : 997) {
    std::vector<std::byte> damaged = bytes_;
    damaged[i] ^= std::byte{0x20};
    const Errc code = error_of(damaged);
    const bool is_version = i >= 8 && i < 12;
    EXPECT_EQ(code, is_version ? Errc::kIncompatiblePlan : Errc::kCorruptFile) << "byte " << i;
  }
}

TEST_F(PlanFile, TruncatedAppendedAndForeignFilesAreNoticed) {
  const std::span<const std::byte> all(bytes_);
  for (const size_t size : {size_t{0}, size_t{7}, size_t{12}, size_t{199}, size_t{200}, size_t{201},
                            bytes_.size() / 2, bytes_.size() - 1}) {
    EXPECT_EQ(error_of(all.first(size)), Errc::kCorruptFile) << size;
  }
  std::vector<std::byte> longer = bytes_;
  longer.push_back(std::byte{0});
  EXPECT_EQ(error_of(longer), Errc::kCorruptFile);
}

TEST_F(PlanFile, WhatWouldReachOutsideItsMemoryIsRefused) {
  constexpr size_t kStep = 3;
  refuse("slot out of range",
         [](runtime::Profile& p) { p.stages[kStep].front().inputs.front().slot = 1U << 30; });
  refuse("arena too small", [](runtime::Profile& p) { p.arena_bytes /= 2; });
  refuse("persistent region too small", [](runtime::Profile& p) { p.persistent_bytes /= 2; });
  refuse("read before written",
         [](runtime::Profile& p) { p.stages[kStep].erase(p.stages[kStep].begin()); });
  refuse("written twice",
         [](runtime::Profile& p) { p.stages[kStep].push_back(p.stages[kStep].front()); });
  refuse("other type", [](runtime::Profile& p) {
    runtime::Slot& slot = p.slots[p.stages[kStep].front().outputs.front()];
    slot.type.dtype = DType::kBF16;
  });
  refuse("offset past the end", [](runtime::Profile& p) {
    for (runtime::Slot& slot : p.slots) {
      if (slot.storage == runtime::Storage::kArena) slot.offset = ~uint64_t{63};
    }
  });
  refuse("everything at one place", [](runtime::Profile& p) {
    for (runtime::Slot& slot : p.slots) {
      if (slot.storage == runtime::Storage::kArena) slot.offset = 0;
    }
  });
  refuse("weight without name", [](runtime::Profile& p) {
    for (runtime::Slot& slot : p.slots) slot.weight.clear();
  });
  refuse("output bound to nothing", [](runtime::Profile& p) {
    p.outputs.push_back({"more", static_cast<runtime::SlotId>(p.slots.size())});
  });
}

TEST_F(PlanFile, AnotherDeviceIsNamed) {
  runtime::check_fits(*plan_, device_->info(), device_->kernels(), "test.plan");
  backend::DeviceInfo other = device_->info();
  other.arch = "sm_90";
  try {
    runtime::check_fits(*plan_, other, device_->kernels(), "test.plan");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::kIncompatiblePlan);
    EXPECT_NE(std::string(error.what()).find("sm_90"), std::string::npos);
  }
}

}  // namespace
}  // namespace halftone::workflow
