// Plans on disk: a real plan, damaged in every way that a reader must notice.
#include "runtime/plan_file.h"

#include <cstring>
#include <functional>

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "backend/cpu/cpu_device.h"
#include "base/hash.h"
#include "runtime/executor.h"
#include "runtime/plan_codec.h"
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

// A cache does not give what an older pass or scheme made.
TEST_F(PlanFile, NamesTheSourcesThatMadeIt) {
  EXPECT_EQ(plan_->fingerprint.entry("plan_makers"), plan_makers_hash());
  EXPECT_EQ(plan_makers_hash().size(), 16U);
  EXPECT_NE(plan_makers_hash(), to_hex(sha256(std::string_view())).substr(0, 16)) << "no sources";
}

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

// The fields behind the CRC, with the CRC made right again: a forger's file, or another writer's.
TEST_F(PlanFile, ForgedHeadersAreNoticed) {
  constexpr size_t kCrcAt = 12;
  constexpr size_t kHeaderBytes = 200;
  const auto forge = [&](size_t at, uint64_t value, size_t size) {
    std::vector<std::byte> bytes = bytes_;
    std::memcpy(bytes.data() + at, &value, size);
    const uint32_t first = crc32c(bytes.data(), kCrcAt);
    const uint32_t crc = crc32c(bytes.data() + kCrcAt + 4, kHeaderBytes - kCrcAt - 4, first);
    std::memcpy(bytes.data() + kCrcAt, &crc, sizeof(crc));
    return bytes;
  };
  const auto number = [&](size_t at) {
    uint64_t value = 0;
    std::memcpy(&value, bytes_.data() + at, sizeof(value));
    return value;
  };
  EXPECT_EQ(forge(16, bytes_.size(), 8), bytes_) << "a right value stays right";
  for (const uint32_t version : {0U, 2U, 0x7fffffffU, 0x01000000U}) {
    EXPECT_EQ(error_of(forge(8, version, 4)), Errc::kIncompatiblePlan) << version;
  }
  EXPECT_EQ(error_of(forge(16, bytes_.size() + 1, 8)), Errc::kCorruptFile) << "size";
  for (const uint64_t sections : {0U, 2U, 4U, 0xffffffffU}) {
    EXPECT_EQ(error_of(forge(24, sections, 4)), Errc::kCorruptFile) << sections << " sections";
  }
  EXPECT_EQ(error_of(forge(28, 1, 4)), Errc::kCorruptFile) << "reserved";
  for (size_t entry = 32; entry < kHeaderBytes; entry += 56) {
    SCOPED_TRACE(entry);
    for (const uint64_t id : {0U, 7U, 0xffffffffU}) {  // unknown, missing or in another order
      EXPECT_EQ(error_of(forge(entry, id, 4)), Errc::kCorruptFile) << id;
    }
    const uint64_t offset = number(entry + 8);
    const uint64_t size = number(entry + 16);
    for (const uint64_t bad : {uint64_t{0}, offset - 1, offset + 8, uint64_t{bytes_.size()},
                               ~uint64_t{0}, ~uint64_t{0} - size + 1}) {
      if (bad == offset) continue;  // an empty section at the end
      EXPECT_EQ(error_of(forge(entry + 8, bad, 8)), Errc::kCorruptFile) << "offset " << bad;
    }
    for (const uint64_t bad : {size / 2 + 1, size + 1, uint64_t{bytes_.size()}, ~uint64_t{0}}) {
      EXPECT_EQ(error_of(forge(entry + 16, bad, 8)), Errc::kCorruptFile) << "size " << bad;
    }
    EXPECT_EQ(error_of(forge(entry + 24, ~number(entry + 24), 8)), Errc::kCorruptFile) << "hash";
  }
}

// Sections with right hashes that end early at every byte of their beginning, and at every later
// 61st.
TEST_F(PlanFile, SectionsThatEndEarlyAreNoticed) {
  runtime::Plan plan = *plan_;
  const Shape shape{4};
  runtime::Slot table;
  table.name = "table";
  table.type = {DType::kF32, shape};
  table.storage = runtime::Storage::kLiteral;
  table.row_pitch = shape.row_size();
  table.literal = std::make_shared<const Tensor>(Tensor::zeros(table.type));
  plan.profiles.front().slots.push_back(table);
  const runtime::PlanSections sections = runtime::encode(plan);
  const auto refused = [&](std::span<const std::byte> head, std::span<const std::byte> profiles,
                           std::span<const std::byte> literals) {
    try {
      static_cast<void>(runtime::decode(head, profiles, literals, "test.plan"));
    } catch (const Error& error) {
      return error.code() == Errc::kCorruptFile;
    }
    return false;
  };
  const std::span<const std::byte> head(sections.head), profiles(sections.profiles),
      literals(sections.literals);
  ASSERT_FALSE(refused(head, profiles, literals));
  ASSERT_EQ(literals.size(), 16U);
  const auto sizes = [](std::span<const std::byte> section) {
    constexpr size_t kBeginning = 300;
    std::vector<size_t> list;
    for (size_t i = 0; i < section.size(); i += i < kBeginning ? 1 : 61) list.push_back(i);
    return list;
  };
  for (const size_t n : sizes(head)) EXPECT_TRUE(refused(head.first(n), profiles, literals)) << n;
  for (const size_t n : sizes(profiles)) {
    EXPECT_TRUE(refused(head, profiles.first(n), literals)) << n;
  }
  for (const size_t n : sizes(literals)) {
    EXPECT_TRUE(refused(head, profiles, literals.first(n))) << n;
  }
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

// What only the device can judge is refused before anything runs.
TEST_F(PlanFile, CallsThatTheirKernelDoesNotTakeAreRefused) {
  struct Case {
    const char* message;
    std::function<void(runtime::Call&)> damage;
  };
  const Case cases[] = {
      {"is unknown to device", [](runtime::Call& call) { call.kernel = "cpu.linear.magic"; }},
      {"is unknown to device",
       [](runtime::Call& call) { call.kernel = "cpu.reference.group_norm"; }},
      {"has no configuration 999", [](runtime::Call& call) { call.config.row = 999; }},
      {"bytes of workspace", [](runtime::Call& call) { call.workspace_bytes = 0; }},
      {"its weight", [](runtime::Call& call) { call.packs_weight = !call.packs_weight; }},
  };
  for (const Case& c : cases) {
    auto plan = std::make_shared<runtime::Plan>(*plan_);
    bool found = false;
    for (runtime::Call& call :
         plan->profiles.front().stages[static_cast<size_t>(graph::Rate::kStep)]) {
      if (!call.packs_weight || call.workspace_bytes == 0 || found) continue;
      found = true;
      c.damage(call);
    }
    ASSERT_TRUE(found) << "no call with a packed weight and a workspace";
    runtime::check_plan(*plan, "test.plan");
    try {
      const runtime::Executor executor(plan, 0, *device_, *model_.checkpoint);
      ADD_FAILURE() << c.message << ": was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::kIncompatiblePlan) << error.what();
      EXPECT_NE(std::string(error.what()).find(c.message), std::string::npos) << error.what();
    }
  }
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
