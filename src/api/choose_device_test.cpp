#include <gtest/gtest.h>

#include "halftone/error.h"

#include "api/backends.h"

namespace halftone::api {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;

DeviceModel gpu(const std::string& name, const std::string& arch, uint64_t free_bytes,
                std::string problem = {}) {
  DeviceModel model;
  model.info.name = name;
  model.info.arch = arch;
  model.model = "NVIDIA " + name;
  model.free_bytes = free_bytes;
  model.problem = std::move(problem);
  return model;
}

TEST(ChooseDevice, TakesTheGpuWithTheMostFreeMemory) {
  const DeviceModel found[] = {gpu("cuda:0", "sm_90", 10 * kGiB),
                               gpu("cuda:1", "sm_89", 40 * kGiB)};
  const DeviceChoice choice = choose_device(found, "");
  EXPECT_EQ(choice.name, "cuda:1");
  EXPECT_EQ(choice.reason, "NVIDIA cuda:1, compute capability 8.9, 40.0 GiB free");
}

TEST(ChooseDevice, SaysWhatItPassedOver) {
  const DeviceModel found[] = {gpu("cuda:0", "sm_75", 20 * kGiB),
                               gpu("cuda:1", "sm_120", 3 * kGiB)};
  const DeviceChoice choice = choose_device(found, "");
  EXPECT_EQ(choice.name, "cuda:1");
  EXPECT_NE(choice.reason.find("cuda:0: has compute capability 7.5, wanted 8.0 or newer"),
            std::string::npos);
}

TEST(ChooseDevice, TakesTheCpuWhenNoGpuIsUsable) {
  const DeviceModel found[] = {gpu("cuda:0", "sm_90", kGiB / 2),
                               gpu("cuda:1", "sm_100", 80 * kGiB, "has no code here")};
  const DeviceChoice choice = choose_device(found, "");
  EXPECT_EQ(choice.name, "cpu");
  EXPECT_EQ(choice.reason,
            "cuda:0: 0.5 GiB of memory are free, wanted 2.0; cuda:1: has no code here");
}

TEST(ChooseDevice, SaysWhyThereIsNoDevice) {
  const DeviceChoice choice = choose_device({}, "no NVIDIA driver was found");
  EXPECT_EQ(choice.name, "cpu");
  EXPECT_EQ(choice.reason, "no NVIDIA driver was found");
}

TEST(CreateDevice, ALimitIsKept) {
  const auto device = create_device("cpu", {.threads = 1, .cache_dir = {}, .memory_limit = 4096});
  const auto first = device->allocate(1024);
  EXPECT_EQ(device->peak_bytes(), 1024U);
  try {
    static_cast<void>(device->allocate(4096));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::kOutOfMemory);
    EXPECT_NE(std::string(error.what()).find("needed 4096 bytes, 3072 are free"), std::string::npos)
        << error.what();
  }
  static_cast<void>(device->allocate(3072));
  EXPECT_EQ(device->peak_bytes(), 4096U);
}

}  // namespace
}  // namespace halftone::api
